"""Images with labels, as a user might bring them to training."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modic.records import LEVELS

SLICES, ROWS, COLUMNS = 9, 240, 110


MIDLINE = 6  # of the made spine; the middle of its stack is 4


TOPS = [20 + 34 * i for i in range(6)]  # first row of the discs T12/L1 … L5/S1, each 9 rows of 38 columns


LEFT, WIDTH, HEIGHT = 30, 38, 9


BOXES = [(LEFT - 6.0, top - 5.5, LEFT + WIDTH + 5.0, top + HEIGHT + 4.5) for top in TOPS]


def spine(*, marrow: float = 200, disc: float = 60) -> np.ndarray:
    """float32 (slices, rows, columns), canonical: bodies and discs on the slices around MIDLINE, noise for texture."""
    voxels = np.random.default_rng(0).normal(30, 3, (SLICES, ROWS, COLUMNS)).astype(np.float32)
    voxels[MIDLINE - 2 :, :, LEFT : LEFT + WIDTH] += marrow
    for top in TOPS:
        voxels[MIDLINE - 2 :, top : top + HEIGHT, LEFT : LEFT + WIDTH] += disc - marrow
    return voxels


def table(path: Path, rows: Sequence[dict[str, Any]], *, dialect: str = "excel") -> Path:
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns, dialect=dialect)
        writer.writeheader()
        writer.writerows(rows)
    return path


def boxed(patient: str, types: Sequence[Any] = (0, 1, 2, 0, 2, 0), **more: Any) -> list[dict[str, Any]]:
    """Six rows of one patient with the made spine's boxes."""
    return [
        {"patient_id": patient, "level": level, "mc": mc, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
         "slice": MIDLINE, **more}
        for level, mc, box in zip(LEVELS, types, BOXES, strict=True)
    ]  # fmt: skip


def pictures(folder: Path, patients: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for patient in patients:
        for name, marrow in (("t1", 200), ("t2", 120)):
            cv2.imwrite(str(folder / f"{patient}_{name}.png"), spine(marrow=marrow)[MIDLINE].clip(0, 255).astype("u1"))
    return folder
