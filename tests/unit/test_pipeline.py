"""The path of a study, with the networks replaced; the stages themselves have their own tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from drawn_spines import BOXES, DENSITY, STIR, T1, T2, WATER
from fake_worker import MODEL
from made_studies import MODELS
from modic import pipeline
from modic.config import Config
from modic.errors import Reason, Rejected
from modic.grading.marrow import EndplateMarrow, MarrowMeasurements
from modic.grading.network_output import NetworkOutput
from modic.imaging import in_place
from modic.imaging.in_place import load_volumes
from modic.imaging.volume import Volume
from modic.levels import whole_spine
from modic.levels.count_from_c2 import Count
from modic.models.step_classifier import StepClassifier
from modic.records import (
    ENDPLATE_COLUMNS,
    LEVELS,
    MARROW_COLUMNS,
    Grade,
    LevelBox,
    LevelSet,
    Pair,
    Series,
    SeriesWarning,
    Transitional,
    WarningKind,
)
from modic.run.ledger import level_row
from modic.series.contrast_from_pixels import shows_another_contrast


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that finds L4/L5, L5/S1 and a far too small L1/L2; a classifier that is sure of MC1."""
    boxes = tuple(
        LevelBox(name, box, 5, 0.9)
        for name, box in [("L1/L2", (20, 5, 22, 6)), ("L4/L5", (10, 30, 40, 40)), ("L5/S1", (10, 45, 40, 55))]
    )
    preprocessing = {"normalization": "standardize", "region_scale": 1.5, "region_size": 8, "slices": 5}
    monkeypatch.setitem(MODEL.card, "preprocessing", preprocessing)
    monkeypatch.setattr(pipeline, "find_levels", lambda t2, **_: LevelSet(boxes, "uncertain", 0.5))
    monkeypatch.setattr(pipeline, "find_endplates", lambda *_, **__: {"L4/L5": None})
    monkeypatch.setattr(pipeline, "check_orientation", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "encode_regions", lambda *_, **__: None)
    output = NetworkOutput(np.zeros((2, 3), np.float32), np.zeros((2, 5, 3), np.float32), np.zeros((2, 7), np.float16))
    monkeypatch.setattr(pipeline, "calibration_of", lambda *_: None)
    monkeypatch.setattr(pipeline, "network_output", lambda *_: output)
    monkeypatch.setattr(pipeline, "grade_output", lambda names, *_, **__: [sure(one) for one in names])


def sure(level: str) -> Grade:
    return Grade(level, (0.1, 0.8, 0.1), (1,), 1, False, ((0.1, 0.8, 0.1),) * 5)


@pytest.mark.usefixtures("networks")
def test_a_graded_study_has_six_levels_in_order_each_with_its_status(one_pair: Pair) -> None:
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert [one.level for one in result.levels] == list(LEVELS)
    assert [one.status for one in result.levels] == [
        "not_found",
        "unreadable",
        "not_found",
        "not_found",
        "graded",
        "graded",
    ]
    graded = result.levels[-1]
    assert graded.grade is not None and graded.grade.mc == 1
    assert graded.t1_box == pytest.approx((10, 45, 40, 55))
    assert graded.corner0_mm is not None and graded.corner0_mm[2] > graded.corner1_mm[2]  # type: ignore[index]
    assert list(result.seconds) == ["load", "levels", "marrow", "contrast", "count", "regions", "normalize", "grade"]
    assert result.rejected is None and result.numbering == "uncertain"


@pytest.mark.usefixtures("networks")
def test_measured_marrow_stands_in_the_row_and_takes_a_grade_back_that_contradicts_it(
    one_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Type 1 is dark on T1; here T1 is bright beside the endplate below the disc."""
    plain = EndplateMarrow({"t1": 1.0, "t2": 1.0}, {"t1": 1.0, "t2": 1.0}, extent=0.0, depth_mm=0.0)
    bright = EndplateMarrow({"t1": 1.5, "t2": 1.1}, {"t1": 1.4, "t2": 1.1}, extent=0.6, depth_mm=7.0, bright=1.0)
    marrow = {"L4/L5": MarrowMeasurements("L4/L5", upper=plain, lower=bright)}
    monkeypatch.setattr(pipeline, "measure", lambda *_: (marrow, {}, {}))
    models = replace(MODELS, segmenter=object())
    *_, measured, unmeasured = map(level_row, pipeline.grade_study(one_pair, models=models, config=Config()).levels)
    columns = ("t1_ratio_upper", "t1_ratio_lower", "t2_patient_ratio_lower", "extent_lower", "depth_lower_mm")
    assert [measured[name] for name in columns] == [1.0, 1.5, 1.1, 0.6, 7.0]
    assert (measured["mc"], measured["abstained_reason"]) == (None, "marrow.t1_bright")
    assert {measured[name] for name in ENDPLATE_COLUMNS} == {None}
    assert unmeasured["mc"] == 1 and {unmeasured[name] for name in MARROW_COLUMNS} == {None}


@pytest.mark.usefixtures("networks")
def test_the_endplates_are_asked_whether_the_pixels_lie_as_the_header_says(
    one_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = Rejected(Reason.STUDY_NOT_LUMBAR, "upside down")
    monkeypatch.setattr(pipeline, "check_orientation", lambda _, __, endplates, **___: turned if endplates else None)
    monkeypatch.setattr(pipeline, "measure", lambda *_: ({}, {}, {}))
    assert pipeline.grade_study(one_pair, models=MODELS, config=Config()).rejected is None  # no segmenter
    models = replace(MODELS, segmenter=object())
    assert pipeline.grade_study(one_pair, models=models, config=Config()).rejected == turned


@pytest.mark.usefixtures("networks")
def test_a_grade_that_the_marrow_bears_out_has_types_and_extents_at_the_endplates(
    one_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EndplateMarrow({"t1": 1.0, "t2": 1.0}, {"t1": 1.0, "t2": 1.0}, extent=0.0, depth_mm=0.0, height_mm=28.0)
    dark = EndplateMarrow({"t1": 0.6}, {"t1": 0.6}, extent=0.6, depth_mm=9.0, bright=0.0, height_mm=28.0)
    monkeypatch.setattr(pipeline, "measure", lambda *_: ({"L4/L5": MarrowMeasurements("L4/L5", plain, dark)}, {}, {}))
    models = replace(MODELS, segmenter=object())
    *_, row, _ = map(level_row, pipeline.grade_study(one_pair, models=models, config=Config()).levels)
    assert [row[name] for name in ("mc", *ENDPLATE_COLUMNS)] == [1, "0", None, "1", "B"]


@pytest.mark.usefixtures("networks")
def test_what_was_accepted_with_a_warning_is_said_of_its_contrast(one_pair: Pair) -> None:
    t2 = replace(one_pair.t2, warnings=(SeriesWarning(WarningKind.SLICE_SPACING_VARIES, "3.0%"),))
    warned = replace(one_pair, contrasts={**one_pair.contrasts, "t2": t2})
    result = pipeline.grade_study(warned, models=MODELS, config=Config())
    assert result.warnings == ("T2: slice spacing varies by 3.0%",)


@pytest.mark.usefixtures("networks")
def test_pictures_that_fail_leave_the_grades_and_a_warning(one_pair: Pair, tmp_path: Path) -> None:
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config(), pictures=tmp_path / "s_1")
    without = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.levels == without.levels and "pictures" not in without.seconds
    (warning,) = set(result.warnings) - set(without.warnings)
    assert warning.startswith("no pictures: AttributeError")  # these models have no network to explain
    assert not (tmp_path / "s_1").exists()


@pytest.mark.usefixtures("networks")
def test_a_file_that_vanished_since_the_crawl_fails_the_study_by_name(one_pair: Pair) -> None:
    Path(one_pair.t2.images[3].path).unlink()
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.rejected is not None
    assert result.rejected.reason is Reason.STUDY_FILES_CHANGED
    assert result.rejected.detail.startswith("T2")
    assert result.levels == ()


SIX = tuple(LevelBox(level, (10, 5 + 9 * k, 40, 12 + 9 * k), 5, 0.9) for k, level in enumerate(LEVELS))
COUNTING = replace(MODELS, steps=StepClassifier((), ()))


@pytest.mark.parametrize(
    ("discs", "basis", "reason"), [(23, "count from C2", None), (24, "sacrum", "count from C2 disagrees")]
)
def test_a_count_from_c2_moves_no_name_and_is_said(
    discs: int, basis: str, reason: str | None, one_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = load_volumes(one_pair, Config())
    assert not isinstance(volumes, Rejected)
    levels = LevelSet(SIX, "ok", 0.97, Transitional(False, 0.1))
    seen = []
    monkeypatch.setattr(whole_spine, "count_discs", lambda *given: seen.append(given) or Count(discs, 0.83))
    found, said = whole_spine.counted_on(
        one_pair.t2, volumes["t2"], levels, steps=COUNTING.steps, detector=COUNTING.detector, config=Config()
    )
    ((series, named, _),) = seen
    np.testing.assert_array_equal(series.voxels, volumes["t2"].voxels)
    places = volumes["t2"].native.to_index(named)
    np.testing.assert_allclose(places, [[25, 8.5 + 9 * k, 5] for k in range(6)], atol=1e-6)
    assert said == (f"whole spine: {discs} discs from C2/C3 to the one named L5/S1, 23 are usual; probability 0.83",)
    assert (found.boxes, found.basis, found.transitional.reason) == (SIX, basis, reason)
    assert found.numbering == ("uncertain" if reason else "ok")


@pytest.mark.usefixtures("networks")
def test_a_whole_spine_that_cannot_be_counted_costs_a_warning(one_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pipeline.grade_study(one_pair, models=MODELS, config=Config())

    def said(whole_spine: Series) -> str:
        result = pipeline.grade_study(replace(one_pair, whole_spine=whole_spine), models=COUNTING, config=Config())
        (warning,) = set(result.warnings) - set(plain.warnings)
        assert (result.levels, result.numbering, result.p_numbering) == (plain.levels, "uncertain", 0.5)
        assert (result.transitional, result.numbering_basis) == (plain.transitional, "sacrum")
        return warning

    def fails(*_: Any) -> None:
        raise ValueError("Mr Miller")

    assert said(one_pair.t2).startswith("whole spine not counted: not all six discs")
    gone = replace(one_pair.t2, images=tuple(replace(one, path="gone") for one in one_pair.t2.images))
    assert said(gone).startswith("whole spine not counted: study.files_changed")
    monkeypatch.setattr(whole_spine, "count_discs", fails)
    bug = said(one_pair.t2)
    assert bug.startswith("whole spine not counted: ValueError") and "Miller" not in bug


def test_no_level_found_excludes_the_study(one_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "find_levels", lambda t2, **_: LevelSet((), "uncertain", 0.0))
    result = pipeline.grade_study(one_pair, models=MODELS, config=Config())
    assert result.rejected == Rejected(Reason.STUDY_NO_LEVELS)


@pytest.mark.parametrize(
    "t1, t2, reason",
    [
        (T1, T2, None),
        (DENSITY, T2, None),  # unclear: the header counts
        (T1, STIR, Reason.STUDY_NO_SAGITTAL_T2),  # fat suppression that no word of the header names
        (WATER, T2, Reason.STUDY_NO_SAGITTAL_T1),
        (T2, T1, Reason.STUDY_NO_SAGITTAL_T1),
    ],
)
def test_pixels_of_another_contrast_than_the_header_says_are_refused(
    t1: np.ndarray, t2: np.ndarray, reason: Reason | None
) -> None:
    affine = np.array([[0, 0, 4.4, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    volumes = {
        name: Volume(np.stack([image] * 7).astype(np.float32), affine).canonical()
        for name, image in (("t1", t1), ("t2", t2))
    }
    boxes = tuple(LevelBox(level, box, 3, 0.9) for level, box in zip(LEVELS, BOXES, strict=True))
    refused = shows_another_contrast(volumes, LevelSet(boxes, "ok", 1.0))
    assert (refused.reason if refused else None) == reason


@pytest.mark.parametrize("mm, outcome", [(0.0, "kept"), (6.0, "moved"), (15.0, "refused")])
def test_a_pair_of_one_frame_of_reference_is_compared(mm: float, outcome: str) -> None:
    """Tissue without a pattern that repeats, 15 mm of which slid away."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(7, 150, 150)), (0.5, 4, 4)).astype(np.float32)
    affine = np.array([[0, 0, 4.4, 0], [1.5, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1]])
    slid = affine.copy()
    slid[2, 3] += mm
    volumes = {"t1": Volume(-smooth, slid).canonical(), "t2": Volume(smooth, affine).canonical()}
    placed = in_place.placed(volumes, Config())
    if outcome == "refused":
        assert isinstance(placed, Rejected) and placed.reason is Reason.STUDY_FRAMES_DIFFER
    else:
        assert isinstance(placed, dict)
        assert np.allclose(placed["t1"].affine, affine)
        assert bool(placed["t1"].warnings) == (outcome == "moved")
