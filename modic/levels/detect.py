"""Faster R-CNN on single slices, and the boxes of one disc on several slices made one candidate."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modic.levels.numbering import Candidate, name_sequence
from modic.models.weights import Model
from modic.records import LEVELS

SAME_DISC_IOU = 0.35  # boxes of one disc on neighbouring slices overlap more, boxes of neighbouring discs less
BATCH = 4  # slices at a time; on one core 12 to 17 % faster than one by one, 8 are no faster
GPU_BATCH = 16  # all looks of a study that do not depend on each other
Detections = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one slice: boxes (m, 4) in its pixels, scores (m,) 0-1, and the indices of their names in LEVELS (m,)."""


def detector_image(image: np.ndarray, preprocessing: dict[str, Any]) -> tuple[np.ndarray, float]:
    """One slice (rows, columns) as the detector takes it: float32 (size, size) in 0..1, and its pixels per slice pixel.

    Intensities are clipped at two percentiles; the longer side is resized to `image_size`, the rest padded with 0
    at the right and the bottom.

    Args:
        image: of any unit.
        preprocessing: of the detector's card: `image_size` (px), `percentiles` (two, 0-100).
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


def detect(images: Sequence[np.ndarray] | np.ndarray, detector: Model) -> list[Detections]:
    """Faster R-CNN on each of the slices (rows, columns), `BATCH` at a time, or `GPU_BATCH`."""
    import torch

    if len(images) == 0:
        return []
    prepared = [detector_image(image, detector.card["preprocessing"]) for image in images]
    together = torch.from_numpy(np.stack([padded for padded, _ in prepared]))
    found: list[dict[str, torch.Tensor]] = []
    with torch.inference_mode():
        for batch in torch.split(together, BATCH if detector.device == "cpu" else GPU_BATCH):
            found += detector.net(batch.to(detector.device)[:, None].expand(-1, 3, -1, -1))
    detections = []
    for out, (_, scale) in zip(found, prepared, strict=True):
        boxes, scores, labels = (out[k].numpy() for k in ("boxes", "scores", "labels"))
        detections.append(((boxes + 0.5) / scale - 0.5, scores, labels - 1))
    return detections


def merge(detections: list[Detections], score_min: float) -> list[Candidate]:
    """The boxes of several slices with a score of `score_min` or more → one candidate for each disc, from head to foot.

    Its box is the mean of its members weighted by their squared score; its score for a name is the mean over slices of
    the best on each.
    """
    rows = [(s, *row) for s, boxes in enumerate(detections) for row in zip(*boxes, strict=True) if row[1] >= score_min]
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


def named_discs(images: np.ndarray, detector: Model, score_min: float) -> list[tuple[int, Candidate]]:
    """The discs that some slices (n, rows, columns) show together, head to foot, with names (index in LEVELS).

    For questions that do not need the midline; `modic.levels.find.find_levels` names the levels of a study.
    """
    candidates = merge(detect(images, detector), score_min)
    named = zip(name_sequence(candidates), candidates, strict=True)
    return [(name, candidate) for name, candidate in named if name is not None]


def _candidate(group: list[Any], n_slices: int) -> Candidate:
    scores = np.zeros((n_slices, len(LEVELS)))
    for slice_, _, score, name in group:
        scores[slice_, name] = max(scores[slice_, name], score)
    weights = np.array([row[2] for row in group])
    boxes = np.array([row[1] for row in group])
    return Candidate((weights[:, None] ** 2 * boxes).sum(0) / (weights**2).sum(), scores.mean(0))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1), 0-1."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(inter / union) if union > 0 else 0.0
