"""Volume → the six lumbar levels, each at most once, named in anatomical order.

The detector (Faster R-CNN) takes T2 slices one by one and proposes boxes with a score for every level name. First it
takes slices spread over the stack: the midline is where it finds discs and the canal behind them is bright
(cerebrospinal fluid on T2), wherever in the stack that is. Then boxes of the slices around the midline that are the
same disc become one candidate, and candidates are named once for the whole spine (modic/levels/numbering.py). Last, it
takes the slice of the midline at smaller scales, as a test of the names.
"""

from dataclasses import replace

import numpy as np

from modic.config import LevelOptions
from modic.imaging.volume import CanonicalVolume
from modic.levels.detect import detect, merge
from modic.levels.midline import find_midline, slices_around, spread_slices
from modic.levels.numbering import Candidate, agreed, count_from_below, doubt, lower_part, name_sequence
from modic.models.weights import Model
from modic.records import LEVELS, LevelBox, LevelSet

FARTHER = (0.92, 0.85, 0.78, 0.7)  # shares of the detector's image that the slice fills when the names are tested


def find_levels(t2: CanonicalVolume, *, detector: Model, options: LevelOptions) -> LevelSet:
    """Detect and name the levels of a sagittal T2 volume. Boxes come back in native pixels (`LevelBox`)."""
    voxels, slice_mm = t2.voxels, t2.spacing_mm[2]
    spread = spread_slices(len(voxels), slice_mm)
    detections = dict(zip(spread, detect(voxels[spread], detector), strict=True))
    midline = find_midline(voxels, detections)
    around = slices_around(midline, options.slices, len(voxels), slice_mm)
    new = [index for index in around if index not in detections]
    detections |= dict(zip(new, detect(voxels[new], detector), strict=True))
    candidates = merge([detections[index] for index in around], options.score_min)
    temperature = detector.card.get("calibration", {}).get("numbering_temperature", 1.0)
    names, p_numbering = name_sequence(candidates, temperature=temperature)
    doubts = doubt(candidates, names, _last_row(voxels[midline]))
    if (cut := lower_part(candidates, names)) is not None:
        lower = _look_below(voxels[around], int(cut), detector, options.score_min)
        if counted := count_from_below(candidates, names, lower):
            names, p_numbering, doubts = counted, 1 - p_numbering, "another count from above"
            candidates = [replace(c, scores=np.full(len(LEVELS), c.scores.max())) for c in candidates]
    farther = _look_from_afar(voxels[midline], detector, options.score_min)
    p_numbering = agreed(candidates, names, p_numbering, farther, temperature=temperature)
    boxes = tuple(
        _to_native(LEVELS[name], c, midline, t2) for name, c in zip(names, candidates, strict=True) if name is not None
    )
    sure = p_numbering >= options.numbering_min and not doubts
    return LevelSet(boxes, "ok" if sure else "uncertain", p_numbering)


def _look_below(images: np.ndarray, cut: int, detector: Model, score_min: float) -> list[Candidate]:
    """Candidates of slices (n, rows, columns) of which the detector is not shown the rows above `cut`.

    Boxes are in pixels of the whole slices.
    """
    found = detect(images[:, cut:], detector)
    return merge([(boxes + np.array([0, cut, 0, cut]), *rest) for boxes, *rest in found], score_min)


def _look_from_afar(image: np.ndarray, detector: Model, score_min: float) -> list[list[Candidate]]:
    """Candidates of one slice (rows, columns) that fills only a part of the detector's image, for each of `FARTHER`.

    Boxes are in the slice's pixels.
    """
    looks = []
    for share in FARTHER:
        margin = round((1 / share - 1) / 2 * max(image.shape))
        ((boxes, *rest),) = detect(np.pad(image, margin, constant_values=image.min())[None], detector)
        looks.append(merge([(boxes - margin, *rest)], score_min))
    return looks


def _last_row(image: np.ndarray) -> float:
    """Index of the lowest row of (rows, columns) that is not padding."""
    return float(np.flatnonzero(image.max(1) > image.min())[-1]) if image.min() < image.max() else 0.0


def _to_native(level: str, found: Candidate, slice_: int, t2: CanonicalVolume) -> LevelBox:
    x0, y0, x1, y1 = found.box
    corners = t2.native.to_index(t2.to_mm(np.array([[x0, y0, slice_], [x1, y1, slice_]])))
    (u0, v0), (u1, v1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(u0), float(v0), float(u1), float(v1))
    return LevelBox(level, box, round(float(corners[0, 2])), float(found.scores[LEVELS.index(level)]))
