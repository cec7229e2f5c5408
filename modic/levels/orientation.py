"""Whether the pixels of a T2 lie as their header says: head up, front first. Both contrasts may be wrong alike.

A detector that was trained on upright spines mostly finds better discs on the slice through the canal once it is turned
back, but some discs that are upside down it names as surely. The curve of the spine tells head from foot without it:
towards the sacrum each disc is tilted more to the front than the one above, and the more so the lower it is; upside
down, the higher. `bend` measures that. Neither a spine nor slices that lean as a whole change it.

Scores are sums over the six discs, 0 to 6, on the slice as it is and turned. The first row that holds decides:

| row | condition                                                                           | outcome          |
|-----|-------------------------------------------------------------------------------------|------------------|
| 1   | the names are sure, and the bend is `STRAIGHT` or more                              | none             |
| 2   | discs score better by `BETTER` mirrored, or upside down and mirrored                | study.not_lumbar |
| 3   | the same upside down by `BETTER` + `BEND` x the bend, which may be less than 0      | study.not_lumbar |
| 4   | otherwise                                                                           | none             |

A bend that is not known counts as 0 in row 3. If several ways are against the header, the one whose discs score best is
named. Numbers were chosen on T2 of 220 patients (half of Sudirman's and of SPIDER's), each upright and upside down;
what was measured on others stands in modic/series/README.md.
"""

from collections.abc import Mapping

import numpy as np

from modic.errors import Reason, Rejected
from modic.imaging.regions import move_box
from modic.imaging.volume import CanonicalVolume, square_pixels
from modic.levels.detect import named_discs
from modic.models.weights import Model
from modic.records import LEVELS, Endplates, LevelSet

UPSIDE_DOWN = "upside down"
WAYS = {UPSIDE_DOWN: (0,), "mirrored front to back": (1,), "upside down and mirrored": (0, 1)}
"""How pixels may lie → the axes (rows, columns) that turn them back."""
BETTER = 0.7  # of a score: the header is believed until discs are better by so much
BEND = 1.0  # of a score by degree of bend
STRAIGHT = 0.5  # degrees of bend; 97 of 100 sure upright spines bend by more, and need no further look of the detector
FEWEST = 5  # discs with a tilt; four fit any parabola too well to tell


def check_orientation(
    levels: LevelSet,
    t2: CanonicalVolume,
    endplates: Mapping[str, Endplates],
    *,
    detector: Model,
    score_min: float,
) -> Rejected | None:
    """The refusal of a study whose pixels contradict their header (study.not_lumbar); None if they do not.

    Args:
        endplates: of `modic.imaging.endplates.find_endplates`, by level.
    """
    bent = bend(endplates)
    if not levels.boxes or (levels.numbering == "ok" and bent is not None and bent >= STRAIGHT):
        return None
    index = round(float(np.median([move_box(t2.native, t2.grid, disc).slice_index for disc in levels.boxes])))
    image = square_pixels(t2).voxels[int(np.clip(index, 0, len(t2.voxels) - 1))]
    as_it_is = _score(image, detector, score_min)
    scores = {
        way: _score(np.ascontiguousarray(np.flip(image, axes)), detector, score_min) for way, axes in WAYS.items()
    }
    limits = dict.fromkeys(WAYS, as_it_is + BETTER)
    limits[UPSIDE_DOWN] += BEND * (bent or 0.0)
    against = [way for way in WAYS if scores[way] >= limits[way]]
    if not against:
        return None
    way = max(against, key=scores.__getitem__)
    detail = f"discs score {scores[way]:.1f} turned back, {as_it_is:.1f} as they are"
    detail += "" if bent is None else f", and the spine bends by {bent:+.1f}"
    return Rejected(Reason.STUDY_NOT_LUMBAR, f"the pixels are {way} against their header: {detail}")


def bend(endplates: Mapping[str, Endplates]) -> float | None:
    """By how much more each disc is tilted to the front than the one above, disc by disc; None if few are seen.

    The coefficient of the square in a parabola through the tilts, degrees by disc². Positive of an upright spine,
    mirrored to negative upside down.
    """
    tilts = {LEVELS.index(level): tilt for level, pair in endplates.items() if (tilt := _tilt(pair)) is not None}
    if len(tilts) < FEWEST:
        return None
    return float(np.polyfit(list(tilts), list(tilts.values()), 2)[0])


def _tilt(pair: Endplates) -> float | None:
    """Degrees by which the front of a disc lies lower than its back: the mean direction of its endplates."""
    lines = [line.points_mm for line in (*pair.upper.seen, *pair.lower.seen)]
    if not lines:
        return None
    along = sum((points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0]) for points in lines)
    return float(np.degrees(np.arctan2(along[2], along[1])))  # LPS: to the back, to the head


def _score(image: np.ndarray, detector: Model, score_min: float) -> float:
    """Sum of the scores of the discs under their names, 0 to 6."""
    return sum(float(disc.scores[name]) for name, disc in named_discs(image[None], detector, score_min))
