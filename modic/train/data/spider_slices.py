"""The public SPIDER slices (van der Graaf 2024, CC BY 4.0) as training data: mid-sagittal PNGs, boxes and grades.

Box lists are trusted only where their number equals the number of graded discs of the patient
(`modic_top_to_bottom` is given): among the others the last box is often L4/L5, which was seen by looking at all 107.
Patient 89 is left out as well: another disc lies below the box called L5/S1.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.errors import UsageError
from modic.imaging.volume import CanonicalVolume, Volume
from modic.records import LEVELS

SPIDER_MM = 0.6  # nominal: the PNGs' true spacing is unknown, and everything scales with the boxes
AMBIGUOUS_PATIENTS = frozenset({"89"})
BOXED_WRONG = frozenset({"22_t1", "50_t2_SPACE", "55_t1", "55_t2_SPACE", "107_t1", "140_t1"})
"""Slices that a detector boxed with confidence but, looked at, named a level off or beyond the spine."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with named discs. `image` uint8; `boxes` (n, 4) px; `names` (n,) index in LEVELS, -1 above T12/L1.

    `other` is not 0 where the spine is transitional and all names may as well be moved by it (`transitional.rename`).
    """

    patient: str
    contrast: str  # t1 | t2 | t2_SPACE | …
    image: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    other: int = 0
    given: bool = True  # boxes by people; False: by a detector, or of a phantom


def split_of(patient: str) -> str:
    """`train` (70 %), `validation` (10 %) or `test` (20 %): by a hash of the patient, the same in every training."""
    digit = int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 10
    return "test" if digit < 2 else "validation" if digit == 2 else "train"


def load_spider(folder: Path, *, detector: str = "") -> list[Sample]:
    """All slices whose boxes can be named; with `detector` weights also those that it can box (`boxed_by`).

    Raises UsageError where the folder is not the SPIDER slices.
    """
    try:
        boxed = json.loads((folder / "disc_boxes.json").read_text())
    except OSError as error:
        raise UsageError(f"{folder} is not a folder of SPIDER slices: {error}") from error
    if detector:
        boxed = boxed_by(detector, folder, boxed)
    return [_sample(folder, key, entry) for key, entry in sorted(boxed.items()) if trusted(key, entry)]


def boxed_by(detector: str, folder: Path, boxes: dict[str, Any]) -> dict[str, Any]:
    """`boxes` with entries for slices that have none to trust and on which a detector is sure of all six levels.

    The shipped detector's boxes were looked at on 230 such slices, before it tested names by looks from afar, which
    left out some; what was wrong is in `BOXED_WRONG`.
    """
    from modic.config import LevelOptions
    from modic.levels.find import find_levels
    from modic.models.weights import load_detector

    model, more = load_detector(detector), dict(boxes)
    for path in sorted((folder / "images").glob("*.png")):
        if path.stem not in BOXED_WRONG and not trusted(path.stem, boxes.get(path.stem, {})):
            image = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
            found = find_levels(slice_volume(image, np.eye(3)), detector=model, options=LevelOptions())
            named = [b.box for b in found.boxes]
            if found.numbering == "ok" and len(named) == len(LEVELS) and evenly_spaced(np.array(named)):
                entry = {"boxes_xyxy_top_to_bottom": named, "modic_top_to_bottom": [0]}
                more[path.stem] = {**entry, "boxed_by": model.id}
    return more


def evenly_spaced(boxes: np.ndarray) -> bool:
    """Whether no distance between neighbours (n, 4) is far from the one before it: else one was missed or is double."""
    steps = np.linalg.norm(np.diff(boxes[:, :2] + boxes[:, 2:], axis=0), axis=1)
    ratios = steps[1:] / np.maximum(steps[:-1], 1e-6)
    return bool(ratios.max() < 1.5 and ratios.min() > 0.62)


def slice_volume(image: np.ndarray, placed: np.ndarray) -> CanonicalVolume:
    """A volume of one sagittal slice; `placed` maps its pixels to the common grid of `SPIDER_MM` pixels."""
    affine = np.eye(4)
    affine[:3, 2] = (1, 0, 0)
    affine[1:3, :2] = (np.diag([1, -1]) @ placed[:2, :2]) * SPIDER_MM
    affine[1:3, 3] = np.array([1, -1]) * placed[:2, 2] * SPIDER_MM
    affine[0, :2] = 0
    return Volume(image[None].astype(np.float32), affine).canonical()


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
    return Sample(patient, contrast, image, boxes, np.maximum(names, -1), given="boxed_by" not in entry)
