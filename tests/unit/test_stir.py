"""A STIR beside T1 and T2: its marrow tells oedema from fat, twice alike; one that does not fit costs nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modic import pipeline
from modic.config import Config
from modic.errors import Reason
from modic.imaging.endplates import find_endplates
from modic.imaging.volume import CanonicalVolume, Grid
from modic.models.endplate_net import Segmenter
from modic.models.weights import Models, load_models, load_segmenter
from modic.phantom.anatomy import VERTEBRAE, Lesion, Patient, make_patient
from modic.phantom.physics import Sequence, stir_null_ti
from modic.phantom.render import Grid as Stack
from modic.phantom.render import disc_boxes, render_many
from modic.records import Endplates, LevelBox, LevelSet
from modic.run.ledger import level_row
from modic.series.stir_beside import stir_beside

PLACE = {"ap": (-0.5, 0.5), "lateral": (-0.4, 0.4), "depth_mm": 9.0, "strength": 0.9}
TYPE_1 = (Lesion("mc1", VERTEBRAE.index("L4"), False, **PLACE), Lesion("mc1", VERTEBRAE.index("S1"), True, **PLACE))  # type: ignore[arg-type]
TYPE_2 = (Lesion("mc2", VERTEBRAE.index("L2"), False, **PLACE), Lesion("mc2", VERTEBRAE.index("L3"), True, **PLACE))  # type: ignore[arg-type]
OEDEMA = [("L4/L5", "upper"), ("L5/S1", "lower")]
FAT = [("L2/L3", "upper"), ("L2/L3", "lower")]
NOTHING = [("T12/L1", "upper"), ("L1/L2", "lower"), ("L3/L4", "lower"), ("L4/L5", "lower")]


@pytest.fixture(scope="module")
def patient() -> Patient:
    return replace(make_patient(9_300_001, p_mc1=0, p_mc2=0, p_transitional=0), lesions=(*TYPE_1, *TYPE_2))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


def imaged(patient: Patient, visit: int) -> tuple[dict[str, CanonicalVolume], LevelSet]:
    """T1, T2 and STIR of a visit: another place, pixel, noise and coil each time."""
    _, y, z = patient.lumbar_centre_mm
    centre = (float(patient.lateral(z)) + visit, y, z - 15.0 - visit)
    grid = Stack("sagittal", 272, 176, 1.0 + 0.05 * visit, 5, 4.0, 2.0, centre)
    stir = Sequence("stir", 4000, 50)
    sequences = [Sequence("t1", 550, 12), Sequence("t2", 3500, 100), replace(stir, ti_ms=stir_null_ti(stir))]
    rendered = render_many(patient, grid, sequences, seed=visit, snr=30, coil=0.2 + 0.4 * visit)
    volumes = {name: volume.canonical() for name, volume in zip(("t1", "t2", "stir"), rendered, strict=True)}
    boxes = tuple(LevelBox(name, box, 2, 1.0) for name, box in disc_boxes(patient, grid, 2) if name)
    return volumes, LevelSet(boxes, "ok", 1.0)


@pytest.fixture(scope="module")
def visits(patient: Patient) -> list[tuple[dict[str, CanonicalVolume], LevelSet]]:
    return [imaged(patient, visit) for visit in range(2)]


def beside(volumes: dict[str, CanonicalVolume], levels: LevelSet, *, checked: bool = False) -> Any:
    """What is made of the STIR among `volumes`."""
    pair: Any = SimpleNamespace(stir=SimpleNamespace(warnings=()), check_stir=checked)
    return stir_beside(pair, volumes, levels, Config())


def endplates(volumes: dict[str, CanonicalVolume], levels: LevelSet, segmenter: Segmenter) -> dict[str, Endplates]:
    return find_endplates(volumes["t2"], volumes["t1"], levels, segmenter=segmenter)


def ratios(visit: tuple[dict[str, CanonicalVolume], LevelSet], segmenter: Segmenter) -> dict[tuple[str, str], float]:
    stir, warnings = beside(*visit)
    assert stir is not None and not warnings
    *_, measured = pipeline.measure(visit[0], endplates(*visit, segmenter), stir)
    return {
        (level, name.rpartition("_")[2]): ratio
        for level, columns in measured.items()
        for name, ratio in columns.items()
        if ratio is not None
    }


@pytest.fixture(scope="module")
def measured(visits: Any, segmenter: Segmenter) -> Iterator[list[dict[tuple[str, str], float]]]:
    yield [ratios(visit, segmenter) for visit in visits]


def test_oedema_is_bright_on_stir_and_fat_is_dark(measured: list[dict[tuple[str, str], float]]) -> None:
    for visit in measured:
        assert min(visit[place] for place in OEDEMA) > 1.5
        assert max(visit[place] for place in FAT) < 0.95
        assert [visit[place] for place in NOTHING] == pytest.approx([1.0] * len(NOTHING), abs=0.2)


def test_another_visit_gives_the_same(measured: list[dict[tuple[str, str], float]]) -> None:
    first, second = measured
    places = OEDEMA + FAT + NOTHING
    assert np.log([first[place] for place in places]) == pytest.approx(np.log([second[p] for p in places]), abs=0.35)


def test_nothing_that_a_grade_rests_on_changes_with_the_stir(visits: Any, segmenter: Segmenter) -> None:
    volumes, levels = visits[0]
    found = endplates(volumes, levels, segmenter)
    without, features, none = pipeline.measure(volumes, found, None)
    marrow, same, _ = pipeline.measure(volumes, found, volumes["stir"])
    assert marrow == without and none == {}
    assert all(np.array_equal(features[level], same[level], equal_nan=True) for level in features)


def shifted(volume: CanonicalVolume, mm: float) -> CanonicalVolume:
    """The same images said to lie so much higher."""
    up = np.eye(4)
    up[2, 3] = mm
    return CanonicalVolume(volume.voxels, up @ volume.affine, native=Grid(up @ volume.native.affine, volume.grid.shape))


def test_a_small_shift_is_corrected_and_said(visits: Any, segmenter: Segmenter, measured: Any) -> None:
    volumes, levels = visits[0]
    stir, warnings = beside({**volumes, "stir": shifted(volumes["stir"], 6.0)}, levels)
    assert stir is not None
    *_, again = pipeline.measure(volumes, endplates(volumes, levels, segmenter), stir)
    assert again["L4/L5"]["stir_ratio_upper"] == pytest.approx(measured[0]["L4/L5", "upper"], rel=0.25)
    (said,) = warnings
    assert said.startswith("STIR: moved to where it agrees with T2; registration: 6.0 mm")


@pytest.mark.parametrize(
    ("changed", "checked", "words"),
    [
        (lambda volumes: shifted(volumes["stir"], 6.0), True, "does not lie where T2 does"),  # no frame of reference
        (lambda volumes: shifted(volumes["stir"], 30.0), False, "does not lie where T2 does"),
        (lambda volumes: volumes["t2"], False, "its pixels show t2"),
        (lambda volumes: volumes["t1"], False, "its pixels show t1"),
    ],
)
def test_a_stir_that_does_not_fit_is_not_measured(visits: Any, changed: Any, checked: bool, words: str) -> None:
    volumes, levels = visits[0]
    stir, (said,) = beside({**volumes, "stir": changed(volumes)}, levels, checked=checked)
    assert stir is None
    assert said.startswith("STIR not measured: ") and words in said


@pytest.fixture(scope="module")
def stir_models() -> Models:
    return load_models("detector", "t1_stir", "cpu")


def on_stir(
    volumes: dict[str, CanonicalVolume], models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The result of a study of T1 and STIR without T2."""
    monkeypatch.setattr(pipeline, "load_volumes", lambda *_, **__: {name: volumes[name] for name in ("t1", "stir")})
    series = SimpleNamespace(warnings=())
    pair: Any = SimpleNamespace(
        contrasts={"t1": series, "stir": series}, stir=series, check_stir=False, whole_spine=None
    )
    return pipeline.grade_study(pair, models=models, config=Config(), pictures=tmp_path / "case")


def test_without_t2_the_shipped_grader_of_t1_and_stir_grades_a_phantom_on_stir(
    visits: Any, stir_models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = on_stir(visits[0][0], stir_models, monkeypatch, tmp_path)
    assert result.rejected is None and result.numbering == "ok"
    rows = {row["level"]: row for row in map(level_row, result.levels)}
    shown = {level: max((row["p_mc0"], 0), (row["p_mc1"], 1), (row["p_mc2"], 2))[1] for level, row in rows.items()}
    assert (shown["L4/L5"], shown["L5/S1"], shown["L2/L3"]) == (1, 1, 2)
    row = rows["L4/L5"]
    assert {row[name] for name in ("t2_x0", "t2_y0", "t2_x1", "t2_y1", "t2_slice", "t2_ratio_upper")} == {None}
    assert None not in {row[name] for name in ("t1_x0", "t1_slice", "mm_x0", "mm_z1", "t1_ratio_upper", "level_score")}
    assert row["stir_ratio_upper"] > 1.5
    assert result.warnings == ("no pictures: they show T1 and T2, and there is no T2",)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda volumes: {"t1": shifted(volumes["t1"], 8.0)}, Reason.STUDY_FRAMES_DIFFER),
        (lambda volumes: {"stir": volumes["t2"]}, Reason.STUDY_NO_SAGITTAL_T2),
    ],
)
def test_without_t2_what_does_not_fit_is_refused(
    visits: Any, changed: Any, reason: Reason, stir_models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    volumes = visits[0][0]
    result = on_stir({**volumes, **changed(volumes)}, stir_models, monkeypatch, tmp_path)
    assert result.rejected is not None and result.rejected.reason is reason
