"""Volume → the six lumbar levels, each at most once, named in anatomical order.

The detector (Faster R-CNN) sees T2 slices one by one and proposes boxes with a score for every level name. First it
looks at slices spread over the stack: the midline is where discs are found and the canal behind them is bright
(cerebrospinal fluid on T2), wherever in the stack that is. Then boxes of the slices around the midline that are the
same disc become one candidate, and candidates are named once for the whole spine (modic/levels/numbering.py). The
midline is then looked at from afar, to see whether the names hold.
"""

from dataclasses import replace

import numpy as np

from modic.config import LevelOptions
from modic.imaging.volume import Volume
from modic.levels.detect import detect, merge
from modic.levels.midline import (
    find_midline,
    slices_around,
    spread_slices,
)
from modic.levels.numbering import Candidate, agreed, count_from_below, doubt, lower_part, name_sequence
from modic.models.weights import Model
from modic.records import LEVELS, LevelBox, LevelSet

FARTHER = (0.92, 0.85, 0.78, 0.7)  # of the detector's image that the slice fills in the looks that test the names


def find_levels(t2: Volume, *, detector: Model, options: LevelOptions) -> LevelSet:
    """Detect and name the levels of a sagittal T2 volume of any axis order. Boxes come back in its own pixels."""
    canonical = t2.canonical()
    looked = spread_slices(canonical.voxels.shape[0], canonical.spacing_mm[2])
    seen = dict(zip(looked, detect(canonical.voxels[looked], detector), strict=True))
    midline = find_midline(canonical.voxels, seen)
    around = slices_around(midline, options.slices, canonical.voxels.shape[0], canonical.spacing_mm[2])
    new = [index for index in around if index not in seen]
    seen |= dict(zip(new, detect(canonical.voxels[new], detector), strict=True))
    candidates = merge([seen[index] for index in around], options.score_min)
    temperature = detector.card.get("calibration", {}).get("numbering_temperature", 1.0)
    names, p_numbering = name_sequence(candidates, temperature=temperature)
    doubts = doubt(candidates, names, _last_row(canonical.voxels[midline]))
    if (cut := lower_part(candidates, names)) is not None:
        lower = _look_below(canonical.voxels[around], int(cut), detector, options.score_min)
        if counted := count_from_below(candidates, names, lower):
            names, p_numbering, doubts = counted, 1 - p_numbering, "another count from above"
            candidates = [replace(c, scores=np.full(len(LEVELS), c.scores.max())) for c in candidates]
    farther = _look_from_afar(canonical.voxels[midline], detector, options.score_min)
    p_numbering = agreed(candidates, names, p_numbering, farther, temperature=temperature)
    boxes = tuple(
        _to_native(LEVELS[name], c, midline, canonical, t2)
        for name, c in zip(names, candidates, strict=True)
        if name is not None
    )
    sure = p_numbering >= options.numbering_min and not doubts
    return LevelSet(boxes, "ok" if sure else "uncertain", p_numbering)


def _look_below(images: np.ndarray, cut: int, detector: Model, score_min: float) -> list[Candidate]:
    """What the detector sees in slices (n, rows, columns) without the rows above `cut`, in the slices' pixels."""
    found = detect(images[:, cut:], detector)
    return merge([(boxes + np.array([0, cut, 0, cut]), *rest) for boxes, *rest in found], score_min)


def _look_from_afar(image: np.ndarray, detector: Model, score_min: float) -> list[list[Candidate]]:
    """What the detector sees in a slice (rows, columns) that fills only a part of its image, in the slice's pixels."""
    looks = []
    for share in FARTHER:
        margin = round((1 / share - 1) / 2 * max(image.shape))
        ((boxes, *rest),) = detect(np.pad(image, margin, constant_values=image.min())[None], detector)
        looks.append(merge([(boxes - margin, *rest)], score_min))
    return looks


def _last_row(image: np.ndarray) -> float:
    """The lowest row that is not padding."""
    return float(np.flatnonzero(image.max(1) > image.min())[-1]) if image.min() < image.max() else 0.0


def _to_native(level: str, found: Candidate, slice_: int, canonical: Volume, native: Volume) -> LevelBox:
    x0, y0, x1, y1 = found.box
    corners = native.to_index(canonical.to_mm(np.array([[x0, y0, slice_], [x1, y1, slice_]])))
    (u0, v0), (u1, v1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(u0), float(v0), float(u1), float(v1))
    return LevelBox(level, box, round(float(corners[0, 2])), float(found.scores[LEVELS.index(level)]))
