"""Cases with images, for tests of the pages."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from made_cohort import RUN, key
from modic.records import LEVELS


def pictures(root: Path, number: int, **changes: Any) -> None:
    """Write the images of one study as a worker does."""
    folder = root / "runs" / RUN / "cases" / key("s", number)
    folder.mkdir(parents=True)
    drawn = {"box": [100, 50, 160, 80], "shown": 1, "slice": 2, "alone": [0.5, 0.6, 0.7, 0.8, 0.9], "agree": 4}
    drawn |= {"upper": 0.7, "lower": 0.2, "t1": 0.5} | changes
    case = {"size": [448, 300], "slices": 5, "levels": dict.fromkeys(LEVELS, drawn)}
    (folder / "case.json").write_text(json.dumps(case))
    for name, data in encoded().items():
        (folder / f"{name}.webp").write_bytes(data)


@cache
def encoded() -> dict[str, bytes]:
    """Four images with smooth noise, as WebP."""
    rng = np.random.default_rng(0)
    sizes = {"t1": (300, 448), "t2": (300, 448), "regions": (672, 1120), "maps": (168, 280, 4)}
    smooth = {n: cv2.GaussianBlur(rng.integers(0, 256, s).astype(np.uint8), (0, 0), 3) for n, s in sizes.items()}
    return {name: cv2.imencode(".webp", picture)[1].tobytes() for name, picture in smooth.items()}
