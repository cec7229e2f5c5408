"""Whether the boxes that were found are those of a lumbar spine at all."""

from itertools import pairwise

import numpy as np

from modic.errors import Reason, Rejected
from modic.imaging.volume import Volume
from modic.records import LEVELS, LevelSet

DISCS_APART_MM = (23.0, 52.0)
LUMBAR_SCORE = 0.5  # mean score of the named discs; 164 real lumbar images of three sources: 0.62 and more
TALLEST_MM = 550.0  # lumbar images are 250 to 450 mm high, whole-spine ones 600 and more


def not_lumbar(levels: LevelSet, t2: Volume) -> Rejected | None:
    """Refuses an image of more than the lumbar spine, and discs that cannot be lumbar: by their looks or distances, mm.

    An image higher than `TALLEST_MM` shows the whole spine: many more discs than the six that the detector knows, at
    another scale than those it was trained on, so that six names prove nothing however well they fit. Discs of the
    thoracic spine get names, but low scores; where some lumbar ones are in view as well, but no sacrum,
    modic/levels/numbering.py calls the names uncertain.

    Cervical discs lie 15 to 20 mm apart, thoracic ones 20 to 25, lumbar ones of adults 28 to 45; a PixelSpacing that is
    wrong by a factor of two shows here as well. Distances are divided by how many levels apart the names are.
    """
    high = _height_mm(t2.canonical())
    if high > TALLEST_MM:
        return Rejected(Reason.STUDY_NOT_LUMBAR, f"image {high:.0f} mm high, at most {TALLEST_MM:g} expected")
    score = float(np.mean([box.score for box in levels.boxes]))
    if score < LUMBAR_SCORE:
        return Rejected(Reason.STUDY_NOT_LUMBAR, f"discs score {score:.2f}, {LUMBAR_SCORE:g} or more expected")
    pairs = list(pairwise(levels.boxes))
    if not pairs:
        return None
    centres = [[(b.box[0] + b.box[2]) / 2, (b.box[1] + b.box[3]) / 2, b.slice_index] for b in levels.boxes]
    apart = np.array([LEVELS.index(b.level) - LEVELS.index(a.level) for a, b in pairs])
    distances = np.linalg.norm(np.diff(t2.to_mm(np.array(centres)), axis=0), axis=1) / apart
    median = float(np.median(distances))
    if DISCS_APART_MM[0] <= median <= DISCS_APART_MM[1]:
        return None
    low, high = DISCS_APART_MM
    return Rejected(Reason.STUDY_NOT_LUMBAR, f"discs {median:.0f} mm apart, {low:g} to {high:g} expected")


def _height_mm(canonical: Volume) -> float:
    """From the highest to the lowest row that is not padding."""
    rows = np.flatnonzero(canonical.voxels.max((0, 2)) > canonical.voxels.min())
    return float(rows[-1] - rows[0] + 1) * canonical.spacing_mm[1] if len(rows) else 0.0
