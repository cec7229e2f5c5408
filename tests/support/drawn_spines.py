"""Drawn sagittal slices of a spine: four tissues of chosen brightness, and the boxes of their discs."""

import numpy as np

BOXES = [(50.0, 20.0 + 40 * k, 100.0, 40.0 + 40 * k) for k in range(6)]


def spine(marrow: float, canal: float, fat: float, disc: float) -> np.ndarray:
    """A slice (260, 200): bodies with discs, the canal from column 93 to 107, muscle, and fat from 145 to 170."""
    image = np.full((260, 200), 2.0)
    image[:, 50:93], image[:, 93:108], image[:, 108:145], image[:, 145:170] = marrow, canal, 30, fat
    for _, top, _, bottom in BOXES:
        image[int(top) + 5 : int(bottom) - 4, 50:93] = disc
    return image


T1, T2, STIR = spine(100, 40, 220, 55), spine(100, 200, 180, 50), spine(40, 200, 20, 60)
WATER, DENSITY = spine(60, 40, 20, 90), spine(100, 100, 200, 90)
"""T1-weighted and fat suppressed; proton density."""
