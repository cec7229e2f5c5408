"""Volume → the six lumbar levels, each at most once, named in anatomical order.

The detector (Faster R-CNN) sees T2 slices one by one and proposes boxes with a score for every level name. First it
looks at slices spread over the stack: the midline is where discs are found and the canal behind them is bright
(cerebrospinal fluid on T2), wherever in the stack that is. Then boxes of the slices around the midline that are the
same disc become one candidate, and candidates are named once for the whole spine (modic/numbering.py). The midline is
then looked at from afar, to see whether the names hold.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from modic.config import LevelOptions
from modic.errors import Reason, Rejected
from modic.numbering import Candidate, agreed, count_from_below, doubt, lower_part, name_sequence
from modic.records import LEVELS, LevelBox, LevelSet, Volume
from modic.weights import Model

SAME_DISC_IOU = 0.35  # boxes of one disc on neighbouring slices overlap more, boxes of neighbouring discs less
LOOK_MM = 8.0  # between the slices that are looked at to find the midline; a lumbar disc is about 50 mm wide
LOOK_MOST = 9
SLICE_MM = 4.0  # between slices around the midline where they are thinner (3D acquisitions)
CANAL = 0.45  # of a disc's width behind its box: the canal
DISCS_APART_MM = (23.0, 52.0)
LUMBAR_SCORE = 0.5  # mean score of the named discs; 164 real lumbar images of three sources: 0.62 and more
TALLEST_MM = 550.0  # lumbar images are 250 to 450 mm high, whole-spine ones 600 and more
FARTHER = (0.92, 0.85, 0.78, 0.7)  # of the detector's image that the slice fills in the looks that test the names
Detections = tuple[np.ndarray, np.ndarray, np.ndarray]


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


def not_lumbar(levels: LevelSet, t2: Volume) -> Rejected | None:
    """Refuses an image of more than the lumbar spine, and discs that cannot be lumbar: by their looks or distances, mm.

    An image higher than `TALLEST_MM` shows the whole spine: many more discs than the six that the detector knows, at
    another scale than those it was trained on, so that six names prove nothing however well they fit. Discs of the
    thoracic spine get names, but low scores; where some lumbar ones are in view as well, but no sacrum,
    modic/numbering.py calls the names uncertain.

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


def detector_image(image: np.ndarray, preprocessing: dict[str, Any]) -> tuple[np.ndarray, float]:
    """One slice as the detector wants it: float32 (size, size) in 0..1, and the scale from its pixels to these.

    Intensities are clipped at two percentiles; the longer side is resized to `image_size`, the rest padded with 0
    at the right and the bottom.
    """
    import cv2

    size, (low, high) = preprocessing["image_size"], preprocessing["percentiles"]
    lo, hi = np.percentile(image, (low, high))
    unit = np.clip((image.astype(np.float32) - lo) / max(hi - lo, 1e-6), 0, 1)
    scale = size / max(image.shape)
    shape = [max(1, round(n * scale)) for n in image.shape]
    resized = cv2.resize(unit, shape[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    padded = np.zeros((size, size), np.float32)
    padded[: shape[0], : shape[1]] = resized
    return padded, scale


def detect(images: np.ndarray, detector: Model) -> list[Detections]:
    """Faster R-CNN on each slice (n, rows, columns): boxes (m, 4) in its pixels, scores (m,), name indices (m,)."""
    import torch

    found = []
    for image in images:
        padded, scale = detector_image(image, detector.card["preprocessing"])
        with torch.inference_mode():
            out = detector.net([torch.from_numpy(padded).to(detector.device).expand(3, -1, -1)])[0]
        boxes, scores, labels = (out[k].cpu().numpy() for k in ("boxes", "scores", "labels"))
        found.append(((boxes + 0.5) / scale - 0.5, scores, labels - 1))
    return found


def merge(detections: list[Detections], score_min: float) -> list[Candidate]:
    """Boxes of all slices and names that are one disc become one candidate, from head to foot.

    The box is the mean of its members weighted by score, the score of a name its mean over slices (best per slice).
    """
    rows = [(s, *row) for s, found in enumerate(detections) for row in zip(*found, strict=True) if row[1] >= score_min]
    rows.sort(key=lambda row: -row[2])
    groups: list[list[Any]] = []
    for row in rows:
        best = max(groups, key=lambda group: iou(group[0][1], row[1]), default=None)
        if best is not None and iou(best[0][1], row[1]) >= SAME_DISC_IOU:
            best.append(row)
        else:
            groups.append([row])
    candidates = [_candidate(group, len(detections)) for group in groups]
    return sorted(candidates, key=lambda c: c.box[1] + c.box[3])


def _candidate(group: list[Any], n_slices: int) -> Candidate:
    scores = np.zeros((n_slices, len(LEVELS)))
    for slice_, _, score, name in group:
        scores[slice_, name] = max(scores[slice_, name], score)
    weights = np.array([row[2] for row in group])
    boxes = np.array([row[1] for row in group])
    return Candidate((weights[:, None] ** 2 * boxes).sum(0) / (weights**2).sum(), scores.mean(0))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(inter / union) if union > 0 else 0.0


def _to_native(level: str, found: Candidate, slice_: int, canonical: Volume, native: Volume) -> LevelBox:
    x0, y0, x1, y1 = found.box
    corners = native.to_index(canonical.to_mm(np.array([[x0, y0, slice_], [x1, y1, slice_]])))
    (u0, v0), (u1, v1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(u0), float(v0), float(u1), float(v1))
    return LevelBox(level, box, round(float(corners[0, 2])), float(found.scores[LEVELS.index(level)]))
