"""Which slices to show the detector: the midline of a volume is where the canal is."""

import numpy as np

from modic.levels.detect import Detections

LOOK_MM = 8.0  # between the slices that are looked at to find the midline; a lumbar disc is about 50 mm wide
LOOK_MOST = 9
SLICE_MM = 4.0  # between slices around the midline where they are thinner (3D acquisitions)
CANAL = 0.45  # of a disc's width behind its box: the canal


def spread_slices(n: int, spacing_mm: float) -> list[int]:
    """At most `LOOK_MOST` slices of a stack of `n`, `LOOK_MM` or more apart, spread evenly around its middle."""
    step = max(1, round(LOOK_MM / spacing_mm), -(-n // LOOK_MOST))
    return list(range((n - 1) % step // 2, n, step))


def slices_around(midline: int, wanted: int, n: int, spacing_mm: float) -> list[int]:
    """`wanted` slices around one of a stack of `n`, in order; every few where slices are thinner than `SLICE_MM`."""
    step = max(1, round(SLICE_MM / spacing_mm))
    indices = midline + step * (np.arange(wanted) - wanted // 2)
    return sorted({int(i) for i in indices if 0 <= i < n})


def find_midline(voxels: np.ndarray, seen: dict[int, Detections]) -> int:
    """The slice through the canal: of those looked at (n, rows, columns), the one where discs score highest and what
    lies behind them is brightest, moved towards the better of its neighbours. The middle one where none has discs."""
    looked = sorted(seen)
    signal = np.array([_discs_and_canal(voxels[index], *seen[index]) for index in looked])
    padded = np.pad(signal, 1)
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    if not smooth.any():
        return looked[len(looked) // 2]
    best = int(smooth.argmax())
    near = slice(max(best - 1, 0), best + 2)
    return round(float(np.average(looked[near], weights=smooth[near])))


def _discs_and_canal(image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, names: np.ndarray) -> float:
    """Sum over names of the best box's score times the brightness of the strip behind it."""
    total = 0.0
    for name in np.unique(names):
        best = np.flatnonzero(names == name)[scores[names == name].argmax()]
        x0, y0, x1, y1 = np.maximum(boxes[best], 0)
        strip = image[int(y0) : int(y1) + 1, int(x1) : int(x1 + CANAL * (x1 - x0)) + 1]
        total += float(scores[best]) * max(float(np.percentile(strip, 75)), 0.0) if strip.size else 0.0
    return total
