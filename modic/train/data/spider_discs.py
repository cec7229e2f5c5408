"""Discs of the prepared SPIDER slices (modic/train/data/spider_slices.py): T1 and T2 laid on each other, and cut."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.errors import UsageError
from modic.imaging.volume import CanonicalVolume
from modic.records import LEVELS, LevelBox
from modic.train.data.disc_marrow import disc_marrow
from modic.train.data.discs import Disc, cut_discs, scanner_name
from modic.train.data.samples import slice_volume
from modic.train.data.spider_slices import boxed_by, trusted
from modic.train.data.split import part_of

Boxes = list[tuple[float, float, float, float]]
Volumes = dict[str, CanonicalVolume]
"""Contrast → volume."""
Grades = dict[int, tuple[int, int]]
"""Disc, counted from L5/S1 (1) upwards → (Modic type, Pfirrmann grade or 0)."""


def spider_discs(folder: Path, preprocessing: dict[str, Any], *, detector: str = "", segmenter: str = "") -> list[Disc]:
    """Discs of the patients who have mid-sagittal T1 and T2 slices, disc boxes and grades 0 or 2.

    There is one slice a series, so discs have one. T1 and T2 of one size lie on each other to a pixel; others are
    placed by the boxes of both. The two discs of type 1 among these slices (patients 50 and
    154) are of test patients, and for testing only.

    Args:
        folder: images/, disc_boxes.json, gradings.csv and, in some copies, series.csv.
        preprocessing: of the classifier.
        detector: weights that box the slices whose boxes are missing or cannot be trusted (`boxed_by`).
        segmenter: weights that find the endplates, beside which the marrow is measured; empty: it is not.

    Raises:
        UsageError: files are missing.
    """
    try:
        boxes = json.loads((folder / "disc_boxes.json").read_text(encoding="utf-8"))
        grades = _grades(folder / "gradings.csv")
    except OSError as error:
        raise UsageError(f"--data spider: {error}") from error
    if detector:
        boxes = boxed_by(detector, folder, boxes)
    scanners = _scanners(folder / "series.csv")
    patients = [path.stem.removesuffix("_t2") for path in sorted((folder / "images").glob("*_t2.png"))]
    return [
        disc
        for patient in patients
        for disc in _discs_of(
            folder, patient, boxes, grades[int(patient)], preprocessing, scanners.get(patient, ""), segmenter
        )
    ]


def _usable(patient: str, grade: tuple[int, int]) -> bool:
    """Types 0 and 2; and type 1, for testing only, of test patients."""
    return grade[0] in (0, 2) or (grade[0] == 1 and part_of(patient) == "test")


def _discs_of(
    folder: Path, patient: str, boxes: dict[str, Any], grades: Grades, preprocessing: dict[str, Any], scanner: str,
    segmenter: str,
) -> Iterator[Disc]:  # fmt: skip
    pair = spider_pair(folder / "images", patient, boxes)
    if pair is not None:
        volumes, on_t2 = pair
        labels = {LEVELS[-n]: grade for n, grade in grades.items() if n <= len(LEVELS) and _usable(patient, grade)}
        named = zip(LEVELS[-len(on_t2) :], on_t2[-len(LEVELS) :], strict=True)
        level_boxes = [LevelBox(name, box, 0, 1.0) for name, box in named]
        marrow = disc_marrow(volumes["t1"], volumes["t2"], level_boxes, segmenter, scaled=True) if segmenter else None
        yield from cut_discs(
            volumes, level_boxes, labels, patient=patient, source="spider", scanner=scanner, marrow=marrow,
            preprocessing={**preprocessing, "slices": 1},
        )  # fmt: skip


def _scanners(path: Path) -> dict[str, str]:
    """Patient → scanner of the T2 series; empty without the file."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["new_file_name"].endswith("_t2")]
    return {
        row["new_file_name"].removesuffix("_t2"): scanner_name(row["Manufacturer"], row["MagneticFieldStrength"])
        for row in rows
    }


def _grades(path: Path) -> dict[int, Grades]:
    """Patient → grades."""
    grades: dict[int, Grades] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            grades[int(row["Patient"])][int(row["IVD label"])] = (int(row["Modic"]), int(row["Pfirrman grade"] or 0))
    return grades


def spider_pair(images: Path, patient: str, boxes: dict[str, Any]) -> tuple[Volumes, Boxes] | None:
    """The volumes and the boxes on T2; None if boxes are missing, cannot be trusted or do not fit both contrasts."""
    paths = [images / f"{patient}_{name}.png" for name in ("t1", "t2")]
    if not all(path.is_file() for path in paths):
        return None
    t1, t2 = (np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths)
    entries = {name: boxes.get(f"{patient}_{name}", {}) for name in ("t1", "t2")}
    on_t1, on_t2 = (
        entry["boxes_xyxy_top_to_bottom"] if trusted(f"{patient}_{name}", entry) else []
        for name, entry in entries.items()
    )
    same_size, shared = t1.shape == t2.shape, min(len(on_t1), len(on_t2))
    if not (on_t1 or on_t2) or not (same_size or shared):
        return None
    placed_t1 = np.eye(3)
    if shared:  # counted from L5/S1
        first, second = np.array(on_t1[-shared:], float), np.array(on_t2[-shared:], float)
        placed_t1 = placed_t1 if same_size else _place(first, second)
        if not _agree(first, second, placed_t1, t1.shape, t2.shape):
            return None
    on_both = [(float(a), float(b), float(c), float(d)) for a, b, c, d in on_t2 or on_t1]
    return {"t1": slice_volume(t1, placed_t1), "t2": slice_volume(t2, np.eye(3))}, on_both


def _agree(
    on_t1: np.ndarray, on_t2: np.ndarray, placed_t1: np.ndarray, shape1: tuple[int, ...], shape2: tuple[int, ...]
) -> bool:
    """Whether both contrasts name the same discs: their boxes (n, 4) fall together, and so do the images' middles.

    A spine is a ladder: boxes named one level apart fit each other as well, but then the images lie apart.
    Neighbouring discs are 0.9 widths apart.
    """
    moved = on_t1 * np.diag(placed_t1)[[0, 1, 0, 1]] + placed_t1[[0, 1, 0, 1], 2]
    middle = placed_t1 @ (shape1[1] / 2, shape1[0] / 2, 1)
    off = np.abs(middle[:2] - (shape2[1] / 2, shape2[0] / 2)).max()
    width = (on_t2[:, 2] - on_t2[:, 0]).mean()
    return bool(np.abs(moved - on_t2).mean() < 0.15 * width and off < 0.4 * width)


def _place(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) map of (column, row, 1): scale and shift per axis that bring boxes (n, 4) onto boxes (n, 4)."""
    matrix = np.eye(3)
    for axis in (0, 1):
        scale, shift = np.polyfit(source[:, axis::2].ravel(), target[:, axis::2].ravel(), 1)
        matrix[axis, axis], matrix[axis, 2] = scale, shift
    return matrix
