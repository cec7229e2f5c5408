"""Pixels that contradict their header in both contrasts alike are refused by name."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drawn_spines import BOXES, T2
from modic.errors import Rejected
from modic.imaging.volume import Volume
from modic.levels.orientation import check_orientation
from modic.records import LEVELS, LevelBox, LevelSet

MARKED = T2.copy()
MARKED[2:10, 2:10] = 5000  # only an upright detector knows this corner


def detect(images: np.ndarray, _: Any) -> list[Any]:
    """Sure of six discs if the mark is where it belongs, else not at all."""
    score = 0.9 if images[0, 5, 5] > 1000 else 0.4
    return [(np.array(BOXES), np.full(6, score), np.arange(6))]


@pytest.mark.parametrize(
    "axes, numbering, way",
    [
        ((), "uncertain", ""),
        ((0,), "uncertain", "upside down against"),
        ((1,), "uncertain", "mirrored front to back against"),
        ((0, 1), "uncertain", "upside down and mirrored against"),
        ((0,), "ok", ""),  # not asked
    ],
)
def test_the_way_that_turns_them_back_is_named(
    axes: tuple[int, ...], numbering: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modic.levels.detect.detect", detect)
    affine = np.array([[0, 0, 4.4, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.stack([np.flip(MARKED, axes)] * 5).astype(np.float32), affine).canonical()
    levels = LevelSet(tuple(LevelBox(LEVELS[k], BOXES[k], 2, 0.4) for k in range(6)), numbering, 0.5)
    refused = check_orientation(levels, volume, detector=SimpleNamespace(), score_min=0.05)  # type: ignore[arg-type]
    assert isinstance(refused, Rejected) == bool(way)
    assert way in (refused.detail if refused else "")
