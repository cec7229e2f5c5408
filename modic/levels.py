"""Volume → the six lumbar levels, each at most once, named in anatomical order.

The detector (Faster R-CNN) sees each central T2 slice by itself and proposes boxes with a score for every level name.
Naming is decided once for the whole spine (`name_sequence`): boxes of all slices that are the same disc become one
candidate; candidates are ordered from head to foot; one name each, names descending, gaps in the names where the
distance between discs says that one is missing. A level that was not seen stays missing and shifts no neighbour.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.config import LevelOptions
from modic.records import LEVELS, LevelBox, LevelSet, Volume
from modic.weights import Model

SAME_DISC_IOU = 0.35  # boxes of one disc on neighbouring slices overlap more, boxes of neighbouring discs less
SPACING_SD = 0.22  # of log(distance / expected), SPIDER's training patients: neighbours differ by about a fifth
MISSED = np.log(0.05)  # a disc between two found ones was overlooked
EPSILON = 0.01  # floor of a class score: a name the detector never proposed stays possible


@dataclass(frozen=True, eq=False)
class Candidate:
    """One disc-like thing: its box (canonical T2 pixels of the midline) and a mean score for each of the six names."""

    box: np.ndarray  # (4,) x0, y0, x1, y1
    scores: np.ndarray  # (6,) mean over slices, 0-1


def find_levels(t2: Volume, *, detector: Model, options: LevelOptions) -> LevelSet:
    """Detect and name the levels of a sagittal T2 volume of any axis order. Boxes come back in its own pixels."""
    canonical = t2.canonical()
    slices = central_slices(canonical.voxels.shape[0], options.slices)
    detections = detect(canonical.voxels[slices], detector)
    midline = int(np.argmax([found[1].sum() for found in detections])) if detections else 0
    candidates = merge(detections, options.score_min)
    names, p_numbering = name_sequence(candidates)
    boxes = tuple(
        _to_native(LEVELS[name], c, slices[midline], canonical, t2)
        for name, c in zip(names, candidates, strict=True)
        if name is not None
    )
    sure = p_numbering >= options.numbering_min and LEVELS[-1] in {b.level for b in boxes}
    index = boxes[0].slice_index if boxes else _native_slice(slices[midline], canonical, t2)
    return LevelSet(boxes, "ok" if sure else "uncertain", p_numbering, index)


def central_slices(n: int, wanted: int) -> list[int]:
    """The `wanted` slices nearest the middle of a stack of `n`, in order."""
    first = max(0, (n - wanted) // 2 + (n - wanted) % 2 // 2)
    return list(range(first, min(n, first + wanted)))


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


def detect(images: np.ndarray, detector: Model) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
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


def merge(detections: list[tuple[np.ndarray, np.ndarray, np.ndarray]], score_min: float) -> list[Candidate]:
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


def name_sequence(candidates: list[Candidate]) -> tuple[list[int | None], float]:
    """The most probable names (index in LEVELS, or None) of candidates ordered head to foot, and its probability.

    Maximizes the sum of log class scores, log probability that a skipped candidate is no graded disc, and the log
    density of the distances (`_steps`). Every name is used at most once and names descend by construction. The
    probability compares the best sequence with the same discs named one or two levels higher or lower.
    """
    n = len(candidates)
    if n == 0:
        return [], 0.0
    log_p = np.log(np.clip([c.scores for c in candidates], EPSILON, 1))
    skip = np.log(np.clip([1 - min(c.scores.sum(), 1 - EPSILON) for c in candidates], EPSILON, 1))
    skipped = np.concatenate([[0], np.cumsum(skip)])  # skipped[j] - skipped[i]: candidates i..j-1 are none
    steps = _steps(candidates)
    best = log_p + skipped[:n, None]  # (n, 6): best score of a sequence that ends with candidate j named k
    back = np.full((n, len(LEVELS), 2), -1)
    for j in range(1, n):
        for k in range(1, len(LEVELS)):
            from_ = best[:j, :k] + (skipped[j] - skipped[1 : j + 1])[:, None] + log_p[j, k] + steps[:j, j, k - 1 :: -1]
            i, m = np.unravel_index(np.argmax(from_), from_.shape)
            if from_[i, m] > best[j, k]:
                best[j, k], back[j, k] = from_[i, m], (i, m)
    total = best + (skipped[n] - skipped[1:])[:, None]
    j, k = (int(v) for v in np.unravel_index(np.argmax(total), total.shape))
    names: list[int | None] = [None] * n
    while j >= 0:
        names[j] = k
        j, k = (int(v) for v in back[j, k])
    return names, _p_shift(names, log_p)


def _steps(candidates: list[Candidate]) -> np.ndarray:
    """(n, n, 5): log density of the distance between candidates i and j if their names are 1..5 levels apart.

    The expected distance is the median between neighbours that look like discs; without two of those, all are equal.
    """
    centres = np.array([(c.box[:2] + c.box[2:]) / 2 for c in candidates])
    likely = centres[[c.scores.sum() >= 0.3 for c in candidates]]
    apart = np.arange(1, len(LEVELS))
    if len(likely) < 2:
        return np.zeros((len(centres), len(centres), len(apart)))
    spacing = np.median(np.linalg.norm(np.diff(likely, axis=0), axis=1))
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)[..., None]
    ratio = np.maximum(distance, 1e-3) / np.maximum(apart * spacing, 1e-3)
    return -0.5 * (np.log(ratio) / SPACING_SD) ** 2 + (apart - 1) * MISSED


def _p_shift(names: list[int | None], log_p: np.ndarray) -> float:
    """Softmax over shifts by -2..2 of the whole sequence of the summed log class scores; a name that falls off either
    end counts as a disc the detector would have had to call nothing."""
    named = [(i, k) for i, k in enumerate(names) if k is not None]
    shifts = np.array([-2, -1, 0, 1, 2])
    totals = np.array(
        [sum(log_p[i, k + s] if 0 <= k + s < len(LEVELS) else np.log(EPSILON) for i, k in named) for s in shifts]
    )
    p = np.exp(totals - totals.max())
    return float(p[2] / p.sum())


def _native_slice(index: int, canonical: Volume, native: Volume) -> int:
    return round(float(native.to_index(canonical.to_mm(np.array([[0, 0, index]])))[0, 2]))


def _to_native(level: str, found: Candidate, slice_: int, canonical: Volume, native: Volume) -> LevelBox:
    x0, y0, x1, y1 = found.box
    corners = native.to_index(canonical.to_mm(np.array([[x0, y0, slice_], [x1, y1, slice_]])))
    (u0, v0), (u1, v1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(u0), float(v0), float(u1), float(v1))
    return LevelBox(level, box, round(float(corners[0, 2])), float(found.scores[LEVELS.index(level)]))
