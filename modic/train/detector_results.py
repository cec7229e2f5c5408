"""Compare the detector's boxes and names with the labels of slices, through the same numbering as in grading."""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.imaging.volume import Volume
from modic.levels.detect import iou
from modic.levels.find import find_levels
from modic.records import LEVELS
from modic.statistics.metrics import NAMED, level_metrics, rounded
from modic.train.data.samples import Sample

if TYPE_CHECKING:
    from modic.models.weights import Model

CORNERS = ("x0", "y0", "x1", "y1")


def compare(samples: list[Sample], detector: "Model") -> list[dict[str, Any]]:
    """One row for each disc of each slice.

    A disc that is labelled but not found has `iou` and `score` 0; one that is found but not labelled has `iou` None.
    `slice_right`: every disc of the slice is named right (IoU of at least `NAMED`) and no other level is found.
    """
    return [row for number, sample in enumerate(samples) for row in _compare_slice(number, sample, detector)]


def _compare_slice(number: int, sample: Sample, detector: "Model") -> list[dict[str, Any]]:
    from modic.config import LevelOptions

    affine = np.array([[0, 0, 4, 0], [0.7, 0, 0, 0], [0, -0.7, 0, 0], [0, 0, 0, 1]], float)
    volume = Volume(sample.image[None].astype(np.float32), affine).canonical()
    levels = find_levels(volume, detector=detector, options=LevelOptions())
    named = {box.level: box for box in levels.boxes}
    truth = {LEVELS[n]: box for n, box in zip(sample.names, sample.boxes, strict=True) if n >= 0}
    overlaps = {level: iou(np.asarray(named[level].box), truth[level]) if level in named else 0.0 for level in truth}
    right = all(value >= NAMED for value in overlaps.values()) and set(named) <= set(truth)
    shared = {
        "patient": sample.patient, "contrast": sample.contrast, "slice": number, "slice_right": right,
        "numbering": levels.numbering, "p_numbering": levels.p_numbering,
    }  # fmt: skip
    return [
        {
            **shared, "level": level, "iou": overlaps.get(level), "named_right": overlaps.get(level, 0.0) >= NAMED,
            "score": named[level].score if level in named else 0.0,
            **_corners("true", truth.get(level)), **_corners("found", named[level].box if level in named else None),
        }
        for level in LEVELS if level in truth or level in named
    ]  # fmt: skip


def _corners(name: str, box: Any) -> dict[str, float | None]:
    return {f"{name}_{corner}": None if box is None else float(box[i]) for i, corner in enumerate(CORNERS)}


def present_discs(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray, np.ndarray]:
    """The rows of labelled discs, and the level (index in LEVELS), IoU and score of each for `level_metrics`."""
    kept = [row for row in rows if row["iou"] is not None]
    level = np.array([LEVELS.index(row["level"]) for row in kept], int)
    return kept, level, np.array([row["iou"] for row in kept], float), np.array([row["score"] for row in kept], float)


def evaluate(samples: list[Sample], detector: "Model") -> dict[str, Any]:
    """IoU and score by level (the paper's Table 1) and the share of names that are right, rounded, for the card."""
    rows = compare(samples, detector)
    _, level, overlap, score = present_discs(rows)
    numbers = level_metrics(level, overlap, score)
    right = {row["slice"]: row["slice_right"] for row in rows}
    return {
        "slices": len(samples), "patients": len({s.patient for s in samples}),
        "all_named_right": rounded(float(np.mean(list(right.values())))) if right else None,
    } | {
        name: {
            "n": int((level == i).sum()), "iou": rounded(numbers["IoU", name]),
            "score": rounded(numbers["confidence", name]), "named_right": rounded(numbers["named right", name]),
        }
        for i, name in enumerate(LEVELS)
    }  # fmt: skip
