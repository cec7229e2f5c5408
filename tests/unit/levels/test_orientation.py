"""Pixels that contradict their header in both contrasts alike are refused by name."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drawn_spines import BOXES, T2
from modic.errors import Rejected
from modic.imaging.endplates import find_endplates
from modic.imaging.volume import Volume
from modic.levels.orientation import bend, check_orientation
from modic.models.endplate_net import Segmenter
from modic.models.weights import load_segmenter
from modic.phantom import anatomy
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, disc_boxes, render
from modic.records import LEVELS, Endplate, EndplateLine, Endplates, EndplateTrouble, LevelBox, LevelSet

Box = tuple[float, float, float, float]
MARKED = T2.copy()
MARKED[2:10, 2:10] = 5000  # only an upright detector knows this corner
UPRIGHT = (-14.0, -13.0, -10.0, -4.0, 6.0, 28.0)  # tilts to the front, degrees
UPSIDE_DOWN = tuple(-tilt for tilt in UPRIGHT[::-1])


def detect(images: np.ndarray, _: Any, *, others: float = 0.4) -> list[Any]:
    """Sure of six discs if the mark is where it belongs, else less so, or of none."""
    score = 0.9 if images[0, 5, 5] > 1000 else others
    return [(np.array(BOXES), np.full(6, score), np.arange(6))]


def endplates(tilts: tuple[float, ...], seen: int = 6) -> dict[str, Endplates]:
    """Of discs with these tilts, of which the last `seen` have endplates."""

    def pair(level: str, tilt: float, *, found: bool) -> Endplates:
        along = np.array([0, np.cos(np.radians(tilt)), np.sin(np.radians(tilt))])
        points = np.linspace(0, 30, 5)[:, None] * along
        line = EndplateLine(points, np.ones((5, 3)), np.full(5, 20.0), 30.0) if found else EndplateTrouble.NO_DISC
        return Endplates(level, Endplate("", (line,)), Endplate("", (EndplateTrouble.UNEVEN,)), (2,))

    named = enumerate(zip(LEVELS, tilts, strict=True))
    return {level: pair(level, tilt, found=k >= 6 - seen) for k, (level, tilt) in named}


def check(axes: tuple[int, ...], numbering: Any, lines: dict[str, Endplates]) -> Rejected | None:
    """Of a stack whose images are turned so."""
    affine = np.array([[0, 0, 4.4, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    volume = Volume(np.stack([np.flip(MARKED, axes)] * 5).astype(np.float32), affine).canonical()
    levels = LevelSet(tuple(LevelBox(LEVELS[k], BOXES[k], 2, 0.4) for k in range(6)), numbering, 0.5)
    return check_orientation(levels, volume, lines, detector=SimpleNamespace(), score_min=0.05)  # type: ignore[arg-type]


@pytest.mark.parametrize("numbering", ["ok", "uncertain"])
@pytest.mark.parametrize("lines", [{}, endplates(UPSIDE_DOWN, seen=4)], ids=["no endplates", "four discs"])
@pytest.mark.parametrize(
    ("axes", "way"),
    [
        ((), ""),
        ((0,), "upside down against"),
        ((1,), "mirrored front to back against"),
        ((0, 1), "upside down and mirrored against"),
    ],
)
def test_the_way_that_turns_them_back_is_named(
    axes: tuple[int, ...], way: str, lines: dict[str, Endplates], numbering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modic.levels.detect.detect", detect)
    refused = check(axes, numbering, lines)
    assert isinstance(refused, Rejected) == bool(way)
    assert way in (refused.detail if refused else "")


@pytest.mark.parametrize("numbering", ["ok", "uncertain"])
@pytest.mark.parametrize(
    ("axes", "others", "refused"),
    [
        ((0,), 0.9, True),  # as sure of discs that are upside down
        ((0,), 0.99, True),  # surer: turned back they score worse by 0.5
        ((), 0.5, False),  # worse by 2.4: a bend alone refuses nothing
    ],
)
def test_a_spine_bent_as_if_upside_down_is_refused_unless_its_discs_look_upright(
    numbering: Any, axes: tuple[int, ...], others: float, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modic.levels.detect.detect", lambda *args: detect(*args, others=others))
    assert check(axes, numbering, endplates(UPRIGHT)) is None
    found = check(axes, numbering, endplates(UPSIDE_DOWN))
    assert (found is not None) == refused
    assert found is None or "the pixels are upside down against" in found.detail


def test_sure_names_on_a_spine_that_bends_upright_cost_no_further_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr("modic.levels.detect.detect", lambda *args: looks.append(1) or detect(*args))  # type: ignore[func-returns-value]
    assert check((0,), "ok", endplates(UPRIGHT)) is None and not looks
    assert check((0,), "ok", endplates((0.0,) * 6)) is not None and len(looks) == 4


def test_dim_discs_that_score_better_upside_down_are_kept_if_the_spine_bends_upright(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modic.levels.detect.detect", lambda *args: detect(*args, others=0.6))
    assert check((0,), "uncertain", {}) is not None  # better by 1.8
    assert check((0,), "uncertain", endplates(UPRIGHT)) is None


def test_a_lean_changes_no_bend_and_five_discs_suffice() -> None:
    upright = bend(endplates(UPRIGHT))
    assert upright is not None and upright == pytest.approx(2.4, abs=0.1)
    assert bend(endplates(UPSIDE_DOWN)) == pytest.approx(-upright)
    assert bend(endplates(tuple(tilt + 30 for tilt in UPRIGHT))) == pytest.approx(upright)
    assert bend(endplates(UPRIGHT, seen=5)) == pytest.approx(3.0, abs=0.1)
    assert bend(endplates(UPRIGHT, seen=4)) is None and bend({}) is None


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


@pytest.mark.parametrize(
    ("lordosis", "scoliosis"),
    [(1.0, (3.0, 300.0, 0.0)), (0.5, (3.0, 300.0, 0.0)), (1.0, (15.0, 220.0, 0.5))],
    ids=["usual", "flat", "scoliosis"],
)
def test_the_bend_tells_upright_from_upside_down_phantoms(
    lordosis: float, scoliosis: tuple[float, float, float], segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anatomy, "_TURN", anatomy._TURN * lordosis)
    upright, boxes = imaged(replace(anatomy.make_patient(900), scoliosis=scoliosis))
    turned = Volume(np.ascontiguousarray(upright.voxels[:, ::-1]), upright.affine)
    last = upright.voxels.shape[1] - 1
    around = [(x0, last - y1, x1, last - y0) for x0, y0, x1, y1 in reversed(boxes)]
    up, down = bend_of(upright, boxes, segmenter), bend_of(turned, around, segmenter)
    assert up is not None and up > 0.15
    assert down is not None and down < -0.15


def imaged(patient: anatomy.Patient) -> tuple[Volume, list[Box]]:
    """A T2 and the boxes of its six discs, head to foot."""
    _, y, z = patient.lumbar_centre_mm
    grid = Grid("sagittal", 256, 256, 1.1, 3, 4.0, 4.4, (float(patient.lateral(z)), y, z - 15))
    volume = render(patient, grid, Sequence("t2", 3500, 100), seed=1).canonical()
    return volume, [box for name, box in disc_boxes(patient, grid, 1) if name]


def bend_of(t2: Volume, boxes: list[Box], segmenter: Segmenter) -> float | None:
    levels = LevelSet(tuple(LevelBox(*one, 1, 1.0) for one in zip(LEVELS, boxes, strict=True)), "ok", 1.0)
    return bend(find_endplates(t2, None, levels, segmenter=segmenter))
