"""The public SPIDER slices (van der Graaf 2024, CC BY 4.0) as training data: mid-sagittal PNGs, boxes and grades.

Box lists are trusted only where their number equals the number of graded discs of the patient
(`modic_top_to_bottom` is given): among the others the last box is often L4/L5, which was seen by looking at all 107.
Patient 89 is left out as well: another disc lies below the box called L5/S1.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from modic.errors import UsageError

AMBIGUOUS_PATIENTS = frozenset({"89"})


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with named discs. `image` uint8; `boxes` (n, 4) px; `names` (n,) index in LEVELS, -1 above T12/L1."""

    patient: str
    contrast: str  # t1 | t2 | t2_SPACE | …
    image: np.ndarray
    boxes: np.ndarray
    names: np.ndarray


def split_of(patient: str) -> str:
    """`train` (70 %), `validation` (10 %) or `test` (20 %): by a hash of the patient, the same in every training."""
    digit = int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 10
    return "test" if digit < 2 else "validation" if digit == 2 else "train"


def load_spider(folder: Path) -> list[Sample]:
    """All slices whose boxes can be named. Raises UsageError where the folder is not the SPIDER slices."""
    try:
        boxed = json.loads((folder / "disc_boxes.json").read_text())
    except OSError as error:
        raise UsageError(f"{folder} is not a folder of SPIDER slices: {error}") from error
    return [_sample(folder, key, entry) for key, entry in sorted(boxed.items()) if trusted(key, entry)]


def trusted(key: str, entry: dict) -> bool:
    """Whether the boxes of one image can be named (see the module's docstring)."""
    return bool(entry.get("modic_top_to_bottom")) and key.split("_")[0] not in AMBIGUOUS_PATIENTS


def _sample(folder: Path, key: str, entry: dict) -> Sample:
    patient, contrast = key.split("_", 1)
    image = cv2.imread(str(folder / "images" / f"{key}.png"), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UsageError(f"{folder}/images/{key}.png cannot be read")
    boxes = np.array(entry["boxes_xyxy_top_to_bottom"], float)
    names = np.arange(6 - len(boxes), 6)  # the last box is L5/S1
    return Sample(patient, contrast, image, boxes, np.maximum(names, -1))
