"""Whether the pixels of a T2 lie as their header says: head up, front first. Both contrasts may be wrong alike.

A detector that was trained on upright spines finds better discs on the slice through the canal once it is turned back.
It is asked only of studies whose names are uncertain, as those of 28 of 33 real spines turned upside down were.
"""

import numpy as np

from modic.errors import Reason, Rejected
from modic.imaging.regions import move_box
from modic.imaging.volume import CanonicalVolume, square_pixels
from modic.levels.detect import named_discs
from modic.models.weights import Model
from modic.records import LevelSet

WAYS = {"upside down": (0,), "mirrored front to back": (1,), "upside down and mirrored": (0, 1)}
"""How pixels may lie → the axes (rows, columns) that turn them back."""
BETTER = 0.7  # by so much the sum of six scores must grow; turning three real spines back gained 1.4 and more


def check_orientation(levels: LevelSet, t2: CanonicalVolume, *, detector: Model, score_min: float) -> Rejected | None:
    """The refusal of a study whose pixels contradict their header (study.not_lumbar); None if they do not."""
    if levels.numbering == "ok" or not levels.boxes:
        return None
    index = round(float(np.median([move_box(t2.native, t2.grid, disc).slice_index for disc in levels.boxes])))
    image = square_pixels(t2).voxels[int(np.clip(index, 0, len(t2.voxels) - 1))]
    as_it_is = _score(image, detector, score_min)
    scores = {
        way: _score(np.ascontiguousarray(np.flip(image, axes)), detector, score_min) for way, axes in WAYS.items()
    }
    way = max(scores, key=scores.__getitem__)
    if scores[way] < as_it_is + BETTER:
        return None
    detail = f"discs score {scores[way]:.1f} turned back, {as_it_is:.1f} as they are"
    return Rejected(Reason.STUDY_NOT_LUMBAR, f"the pixels are {way} against their header: {detail}")


def _score(image: np.ndarray, detector: Model, score_min: float) -> float:
    """Sum of the scores of the discs under their names, 0 to 6."""
    return sum(float(disc.scores[name]) for name, disc in named_discs(image[None], detector, score_min))
