"""Whether the boxes that were found can be the discs of a lumbar spine.

Rows are tried in order. Each limit is an option of `[levels]`, one to warn and one to refuse (study.not_lumbar).

| row | measured                                    | limits              | why                                 |
|-----|---------------------------------------------|---------------------|-------------------------------------|
| L1  | height of the T2 image without padding, mm  | `height_*_mm`       | higher: the whole spine             |
| L2  | mean detector score of the named discs      | `lumbar_score_*`    | lower: thoracic discs               |
| L3  | median distance between neighbouring discs, | `apart_low_*_mm`    | nearer: cervical or thoracic discs  |
|     | mm, over how many levels apart they are     | `apart_high_*_mm`   | farther: a wrong PixelSpacing       |

L1: an image of the whole spine shows many more discs than the six that the detector knows, at another scale than those
it was trained on, so that six names prove nothing however well they fit. L2: discs of the thoracic spine get names, but
low scores; if some lumbar ones are in view as well, but no sacrum, modic/levels/numbering.py calls the names uncertain.

A box that is nearly too narrow to be cut (modic/imaging/regions.py) is warned of here as well (`width_warn_*`).
"""

import numpy as np

from modic.config import LevelOptions
from modic.errors import Reason, Rejected
from modic.imaging.regions import box_width, move_box
from modic.imaging.volume import CanonicalVolume
from modic.records import LEVELS, LevelSet


def check_lumbar(levels: LevelSet, t2: CanonicalVolume, *, options: LevelOptions) -> Rejected | tuple[str, ...]:
    """Refuse what cannot be a lumbar spine, else the warnings; `levels` holds at least one box."""
    o = options
    warnings: list[str] = []
    height = _height_mm(t2)
    if height > o.height_reject_mm:
        return _refused(f"image {height:.0f} mm high, at most {o.height_reject_mm:g} expected")
    if height > o.height_warn_mm:
        warnings.append(f"image {height:.0f} mm high")
    score = float(np.mean([box.score for box in levels.boxes]))
    if score < o.lumbar_score_reject:
        return _refused(f"discs score {score:.2f}, {o.lumbar_score_reject:g} or more expected")
    if score < o.lumbar_score_warn:
        warnings.append(f"discs score {score:.2f}")
    if (apart := _distance_mm(levels, t2)) is not None:
        low, high = o.apart_low_reject_mm, o.apart_high_reject_mm
        if not low <= apart <= high:
            return _refused(f"discs {apart:.0f} mm apart, {low:g} to {high:g} expected")
        if not o.apart_low_warn_mm <= apart <= o.apart_high_warn_mm:
            warnings.append(f"discs {apart:.0f} mm apart")
    return (*warnings, *_narrow(levels, t2, o))


def _refused(detail: str) -> Rejected:
    return Rejected(Reason.STUDY_NOT_LUMBAR, detail)


def _height_mm(t2: CanonicalVolume) -> float:
    """From the highest to the lowest row that is not padding."""
    rows = np.flatnonzero(t2.voxels.max((0, 2)) > t2.voxels.min())
    return float(rows[-1] - rows[0] + 1) * t2.spacing_mm[1] if len(rows) else 0.0


def _distance_mm(levels: LevelSet, t2: CanonicalVolume) -> float | None:
    """Median distance of neighbouring discs' centres for one level; None of a single disc."""
    if len(levels.boxes) < 2:
        return None
    centres = [[(b.box[0] + b.box[2]) / 2, (b.box[1] + b.box[3]) / 2, b.slice_index] for b in levels.boxes]
    apart = np.diff([LEVELS.index(box.level) for box in levels.boxes])
    distances = np.linalg.norm(np.diff(t2.native.to_mm(np.array(centres)), axis=0), axis=1) / apart
    return float(np.median(distances))


def _narrow(levels: LevelSet, t2: CanonicalVolume, options: LevelOptions) -> list[str]:
    """A warning for each box that is wide enough to be cut, but narrower than `width_warn_*`."""
    warnings = []
    for found in levels.boxes:
        px, mm = box_width(t2.grid, move_box(t2.native, t2.grid, found))
        cut = px >= options.width_reject_px and mm >= options.width_reject_mm
        if cut and (px < options.width_warn_px or mm < options.width_warn_mm):
            warnings.append(f"box of {found.level} {px:.1f} px, {mm:.1f} mm wide")
    return warnings
