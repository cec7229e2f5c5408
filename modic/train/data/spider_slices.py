"""The public SPIDER data (van der Graaf 2024, CC BY 4.0) prepared as mid-sagittal PNGs, boxes and grades.

A list of boxes is trusted only if the patient has as many graded discs (`modic_top_to_bottom` is then given): in the
others the last box is often L4/L5, as a look at all 107 showed. Patient 89 is left out as well: another disc lies below
the box called L5/S1.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.errors import UsageError
from modic.records import LEVELS
from modic.train.data.samples import Sample, slice_volume

AMBIGUOUS_PATIENTS = frozenset({"89"})
BOXED_WRONG = frozenset({"22_t1", "50_t2_SPACE", "55_t1", "55_t2_SPACE", "107_t1", "140_t1"})
"""Slices that a detector boxed with confidence, but a level off or beyond the spine, as a look at them showed."""


def load_spider(folder: Path, *, detector: str = "") -> list[Sample]:
    """All slices whose boxes can be named; with `detector` weights also those that it can box (`boxed_by`).

    Raises UsageError if the folder does not hold the SPIDER slices.
    """
    try:
        boxes = json.loads((folder / "disc_boxes.json").read_text())
    except OSError as error:
        raise UsageError(f"{folder} is not a folder of SPIDER slices: {error}") from error
    if detector:
        boxes = boxed_by(detector, folder, boxes)
    return [_sample(folder, key, entry) for key, entry in sorted(boxes.items()) if trusted(key, entry)]


def boxed_by(detector: str, folder: Path, boxes: dict[str, Any]) -> dict[str, Any]:
    """Add boxes of slices without trusted ones, if the detector is sure of all six levels on them.

    Such boxes of the shipped detector were looked at on 230 slices; the wrong ones are in `BOXED_WRONG`. (It has since
    become stricter about names, and boxes some slices fewer.)
    """
    from modic.config import LevelOptions
    from modic.levels.find import find_levels
    from modic.models.weights import load_detector

    model, more = load_detector(detector), dict(boxes)
    for path in sorted((folder / "images").glob("*.png")):
        if path.stem not in BOXED_WRONG and not trusted(path.stem, boxes.get(path.stem, {})):
            image = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
            levels = find_levels(slice_volume(image, np.eye(3)), detector=model, options=LevelOptions())
            named = [level_box.box for level_box in levels.boxes]
            if levels.numbering == "ok" and len(named) == len(LEVELS) and evenly_spaced(np.array(named)):
                entry = {"boxes_xyxy_top_to_bottom": named, "modic_top_to_bottom": [0]}
                more[path.stem] = {**entry, "boxed_by": model.id}
    return more


def evenly_spaced(boxes: np.ndarray) -> bool:
    """Whether each distance between neighbouring boxes (n, 4) is near the one before it; else a disc was missed."""
    steps = np.linalg.norm(np.diff(boxes[:, :2] + boxes[:, 2:], axis=0), axis=1)
    ratios = steps[1:] / np.maximum(steps[:-1], 1e-6)
    return bool(ratios.max() < 1.5 and ratios.min() > 0.62)


def trusted(key: str, entry: dict) -> bool:
    """Whether the boxes of one image can be named (see the module's docstring)."""
    return bool(entry.get("modic_top_to_bottom")) and key.split("_")[0] not in AMBIGUOUS_PATIENTS


def _sample(folder: Path, key: str, entry: dict) -> Sample:
    patient, contrast = key.split("_", 1)
    image = cv2.imread(str(folder / "images" / f"{key}.png"), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UsageError(f"{folder}/images/{key}.png cannot be read")
    boxes = np.array(entry["boxes_xyxy_top_to_bottom"], float)
    names = np.arange(len(LEVELS) - len(boxes), len(LEVELS))  # the last box is L5/S1
    return Sample(patient, contrast, image, boxes, np.maximum(names, -1), given="boxed_by" not in entry)
