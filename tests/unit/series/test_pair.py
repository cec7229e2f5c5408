"""Each study has one result: the pair to grade, or the row of the decision table that excluded it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

import dicoms
from adversaries import changed, turned
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions
from modic.errors import Reason
from modic.records import Excluded, Pair
from modic.series.contrast import ContrastFinding
from modic.series.identify import identify, is_unclear, with_contrast
from modic.series.pair import STIR_THERE, pair
from modic.series.whole_spine import WARNING


def pairs_of(slices: list[Dataset], folder: Path) -> list[Pair | Excluded]:
    dicoms.write(slices, folder / "archive")
    found = identify(crawl(folder / "archive", index=None).headers, options=IdentifyOptions())
    assert pair(found[::-1], options=PairOptions()) == pair(found, options=PairOptions())
    return pair(found, options=PairOptions())


def chosen(slices: list[Dataset], folder: Path) -> Pair:
    (found,) = pairs_of(slices, folder)
    assert isinstance(found, Pair), found
    return found


def test_the_plain_study(tmp_path: Path) -> None:
    found = chosen(dicoms.study(), tmp_path)
    assert (found.t1.contrast, found.t2.contrast, found.rule, found.overlap_fraction) == ("t1", "t2", "P7", 1.0)


T1, T2, STIR = dicoms.t1(), dicoms.t2(), dicoms.stir()
TURNED = turned((5, 2))
RULES = {
    Reason.STUDY_PATIENT_CONFLICT: "P1",
    Reason.STUDY_NO_SAGITTAL_T1_NOR_T2: "P2",
    Reason.STUDY_NO_SAGITTAL_T1: "P3",
    Reason.STUDY_NO_SAGITTAL_T2: "P4",
    Reason.STUDY_FRAMES_DIFFER: "P5",
    Reason.STUDY_LITTLE_OVERLAP: "P6",
}


@pytest.mark.parametrize(
    "t1, t2, changes, reason",
    [
        (T1, STIR, {}, Reason.STUDY_NO_SAGITTAL_T2),
        (STIR, T2, {}, Reason.STUDY_NO_SAGITTAL_T1),
        (STIR, STIR, {}, Reason.STUDY_NO_SAGITTAL_T1_NOR_T2),
        (T1, T2, {"FrameOfReferenceUID": "1.2.3", "ImageOrientationPatient": TURNED}, Reason.STUDY_FRAMES_DIFFER),
        (T1, T2, {"FrameOfReferenceUID": None, "ImageOrientationPatient": TURNED}, Reason.STUDY_FRAMES_DIFFER),
        (T1, T2, {"PatientID": "somebody else"}, Reason.STUDY_PATIENT_CONFLICT),
    ],
)
def test_excluded_by_name(
    t1: dict[str, Any], t2: dict[str, Any], changes: dict[str, Any], reason: Reason, tmp_path: Path
) -> None:
    second = changed(dicoms.series(t2, name="b"), **changes)
    (found,) = pairs_of(dicoms.series(t1, name="a") + second, tmp_path)
    assert isinstance(found, Excluded)
    assert (found.rejected.reason, found.rule) == (reason, RULES[reason])
    assert "somebody" not in found.rejected.detail


@pytest.mark.parametrize("shift_mm, accepted", [(0.0, True), (4.5, True), (13.5, True), (18.0, False), (80.0, False)])
def test_overlap_is_measured_in_patient_millimetres(shift_mm: float, accepted: bool, tmp_path: Path) -> None:
    origin = (-22.5 + shift_mm, -5.5, 7.5)
    slices = dicoms.series(T1, name="a", origin=origin) + dicoms.series(T2, name="b")
    (found,) = pairs_of(slices, tmp_path)
    if accepted:
        assert isinstance(found, Pair)
        assert found.overlap_fraction == pytest.approx(1 - shift_mm / 4.5 / 11)
    else:
        assert isinstance(found, Excluded)
        assert (found.rejected.reason, found.rule) == (Reason.STUDY_LITTLE_OVERLAP, "P6")


@pytest.mark.parametrize(
    "better, worse",
    [
        ({}, {"values": {"SeriesDescription": "SAG T1"}}),
        ({}, {"values": {"ContrastBolusAgent": "Gd"}}),
        ({}, {"values": {"ScanOptions": "FS"}}),
        ({}, {"values": {"MRAcquisitionType": "3D"}}),
        ({"spacing": (0.5, 0.5), "rows": 32, "columns": 24}, {}),
        ({"n": 11}, {"n": 9}),
        ({"values": {"AcquisitionTime": "110000"}}, {"values": {"AcquisitionTime": "100000"}}),
    ],
)
def test_the_best_of_several_is_chosen(better: dict[str, Any], worse: dict[str, Any], tmp_path: Path) -> None:
    slices = dicoms.series(T1, name="t1")
    for name, options in (("better", better), ("worse", worse)):
        rest = {key: value for key, value in options.items() if key != "values"}
        slices += dicoms.series(dicoms.t2(**options.get("values", {})), name=name, **rest)
    found = chosen(slices, tmp_path)
    assert found.t2.series_uid == dicoms.uid("patient-1", "study", "better")


def test_the_others_follow_in_their_order(tmp_path: Path) -> None:
    slices = dicoms.study() + [s for n in (6, 9, 7) for s in dicoms.series(T2, name=f"t2 of {n}", n=n)]
    found = chosen(slices, tmp_path)
    assert [one.t2.n_slices for one in found.choices] == [11, 9, 7, 6]
    assert [one.rule for one in found.choices] == ["P8", *["P8, P10"] * 3]
    assert all(one.t1 == found.t1 for one in found.others)


@pytest.mark.parametrize("uids", [(None, None), (None, "1.2.3"), ("1.2.4", "1.2.3")])
def test_frames_of_reference_that_the_headers_do_not_vouch_for(uids: tuple[str | None, ...], tmp_path: Path) -> None:
    slices = [
        s
        for uid, v in zip(uids, (T1, T2), strict=True)
        for s in changed(dicoms.series(v, name=v["EchoTime"]), FrameOfReferenceUID=uid)
    ]
    found = chosen(slices, tmp_path)
    assert (found.overlap_fraction, found.rule, found.check_images) == (1.0, "P9", True)


@pytest.mark.parametrize("day, rule", [("20200102", "P7"), ("", "P7"), ("20210102", "P9")])
def test_a_frame_of_reference_holds_for_one_day(day: str, rule: str, tmp_path: Path) -> None:
    slices = dicoms.series(T1, name="t1") + changed(dicoms.series(T2, name="t2"), StudyDate=day)
    found = chosen(slices, tmp_path)
    assert (found.rule, found.check_images) == (rule, rule == "P9")


@pytest.mark.parametrize("frames, warned", [(2, False), (3, True)])
def test_a_study_of_many_frames_of_reference_may_be_several_examinations(
    frames: int, warned: bool, tmp_path: Path
) -> None:
    """As if an anonymizer gave all patients one StudyInstanceUID and no id."""
    slices = [
        slice_
        for number in range(frames)
        for name, contrast in (("a", T1), ("b", T2))
        for slice_ in changed(dicoms.series(contrast, name=f"{name}{number}"), FrameOfReferenceUID=f"1.2.{number}")
    ]
    found = chosen(changed(slices, PatientID=None, PatientBirthDate=None, PatientSex=None), tmp_path)
    assert found.t1.frame_of_reference_uid == found.t2.frame_of_reference_uid
    assert any("3 frames of reference" in warning for warning in found.warnings) == warned


def test_a_pair_in_one_frame_of_reference_goes_before_one_that_must_be_checked(tmp_path: Path) -> None:
    finer = dicoms.series(T2, name="finer", spacing=(0.5, 0.5), rows=32, columns=24)
    found = chosen(dicoms.study() + changed(finer, FrameOfReferenceUID="1.2.3"), tmp_path)
    assert (found.rule, found.check_images) == ("P7", False)
    assert found.t2.series_uid == dicoms.uid("patient-1", "study", "t2")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # what old scanners wrote
@pytest.mark.parametrize("agent_at, usable", [("090000", False), ("09:00:00", False), ("110000", True), ("", True)])
def test_a_t1_after_the_contrast_agent_is_not_used_whatever_its_own_header_says(
    agent_at: str, usable: bool, tmp_path: Path
) -> None:
    axial = dicoms.series(dicoms.t1(ContrastBolusAgent="Gadovist"), name="axial", orientation=dicoms.AXIAL, n=6)
    slices = changed(dicoms.study(), AcquisitionTime="10:00:00.5") + changed(axial, AcquisitionTime=agent_at)
    (found,) = pairs_of(slices, tmp_path)
    if usable:
        assert isinstance(found, Pair)
    else:
        assert isinstance(found, Excluded)
        assert (found.rejected.reason, found.rule) == (Reason.STUDY_NO_SAGITTAL_T1, "P3")
        assert "t1 after ContrastBolusAgent 1" in found.rejected.detail


@pytest.mark.parametrize("number, usable", [(3, False), (9, True), (None, True)])
def test_without_times_the_numbers_of_series_tell_what_came_after_the_agent(
    number: int | None, usable: bool, tmp_path: Path
) -> None:
    axial = dicoms.series(dicoms.t1(ContrastBolusAgent="Gadovist"), name="axial", orientation=dicoms.AXIAL, n=6)
    slices = changed(dicoms.study(), AcquisitionTime="", SeriesTime="", SeriesNumber=5)
    (found,) = pairs_of(slices + changed(axial, AcquisitionTime="100000", SeriesNumber=number), tmp_path)
    assert isinstance(found, Pair) == usable


def test_of_two_t1_the_one_before_the_contrast_agent_is_chosen(tmp_path: Path) -> None:
    agent = changed(dicoms.series(dicoms.t1(ContrastBolusAgent="Gd"), name="agent"), AcquisitionTime="100000")
    later = changed(dicoms.series(T1, name="later"), AcquisitionTime="110000")  # would win: a repeat
    found = chosen(changed(dicoms.study(), AcquisitionTime="090000") + agent + later, tmp_path)
    assert found.t1.series_uid == dicoms.uid("patient-1", "study", "t1")


TWO, THREE, T1_AND_STIR = ("t1", "t2"), ("t1", "t2", "stir"), ("t1", "stir")


def pair_for(contrasts: Sequence[str], slices: list[Dataset], folder: Path) -> list[Pair | Excluded]:
    """The study's pair for a classifier that asks for `contrasts`."""
    dicoms.write(slices, folder / "archive")
    headers = crawl(folder / "archive", index=None).headers
    series = identify(headers, contrasts={*TWO, *contrasts}, options=IdentifyOptions())
    return pair(series, contrasts=contrasts, options=PairOptions())


def test_a_classifier_that_asks_for_stir_gets_the_best_stir_in_the_frame_of_the_t2(tmp_path: Path) -> None:
    slices = dicoms.study() + dicoms.series(STIR, name="stir") + dicoms.series(STIR, name="few slices", n=9)
    slices += changed(dicoms.series(STIR, name="other frame", n=13), FrameOfReferenceUID="1.2.3")
    slices += dicoms.series(STIR, name="elsewhere", n=13, origin=(60.0, -5.5, 7.5))
    (found,) = pair_for(THREE, slices, tmp_path)
    assert isinstance(found, Pair)
    assert list(found.contrasts) == ["t1", "t2", "stir"]
    assert found.contrasts["stir"].series_uid == dicoms.uid("patient-1", "study", "stir")
    assert (found.rule, found.others, found.contrasts["stir"].rejected) == ("P7", (), None)


@pytest.mark.parametrize("stirs, usable", [(0, 0), (1, 1)])
def test_a_study_without_the_contrast_asked_for_is_excluded_by_name(stirs: int, usable: int, tmp_path: Path) -> None:
    stir = changed(dicoms.series(STIR, name="stir"), FrameOfReferenceUID="1.2.3")
    (found,) = pair_for(THREE, dicoms.study() + stir * stirs, tmp_path)
    assert isinstance(found, Excluded)
    assert (found.rejected.reason, found.rule) == (Reason.STUDY_NO_OTHER_CONTRAST, "P11")
    assert found.rejected.detail == f"stir: {usable} usable"


def with_stir_for(slices: list[Dataset], folder: Path) -> Pair | Excluded:
    """The study's outcome for a classifier of T1 and T2, with every usable STIR."""
    dicoms.write(slices, folder / "archive")
    series = identify(crawl(folder / "archive", index=None).headers, contrasts=THREE, options=IdentifyOptions())
    (found,) = pair(series, contrasts=TWO, options=PairOptions())
    return found


def test_the_best_stir_is_kept_beside_a_pair_and_is_no_part_of_it(tmp_path: Path) -> None:
    slices = dicoms.study() + dicoms.series(STIR, name="stir") + dicoms.series(STIR, name="few slices", n=9)
    slices += changed(dicoms.series(STIR, name="other frame", n=13), FrameOfReferenceUID="1.2.3")
    found = with_stir_for(slices + dicoms.series(T2, name="t2 again", n=9), tmp_path)
    assert isinstance(found, Pair) and found.stir is not None
    assert (list(found.contrasts), found.rule, found.check_stir, found.warnings) == (["t1", "t2"], "P8", False, ())
    assert {one.stir.series_uid for one in found.choices if one.stir} == {dicoms.uid("patient-1", "study", "stir")}
    assert [series.contrast for series in found.series] == ["t1", "t2", "stir"]
    (other,) = found.others
    assert other.stir == found.stir


def test_a_stir_of_another_frame_must_be_checked_and_one_elsewhere_is_said(tmp_path: Path) -> None:
    stir = changed(dicoms.series(STIR, name="stir"), FrameOfReferenceUID=None)
    found = with_stir_for(dicoms.study() + stir, tmp_path / "a")
    assert isinstance(found, Pair) and found.stir is not None and found.check_stir
    away = dicoms.series(STIR, name="stir", origin=(60.0, -5.5, 7.5))
    found = with_stir_for(dicoms.study() + away, tmp_path / "b")
    assert isinstance(found, Pair) and found.stir is None
    (said,) = found.warnings
    assert said.startswith("STIR: 1 in the study; none is in the frame")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({}, True), ({"ContrastBolusAgent": "Gadovist"}, False), ({"AcquisitionTime": "120000"}, False)],
)
def test_a_stir_with_or_after_an_agent_is_not_kept(changes: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    agent = dicoms.series(dicoms.t1(ContrastBolusAgent="Gd"), name="axial", orientation=dicoms.AXIAL, n=6)
    slices = changed(dicoms.study(), AcquisitionTime="100000") + changed(agent, AcquisitionTime="110000")
    stir = changed(dicoms.series(STIR, name="stir"), **{"AcquisitionTime": "103000", **changes})
    found = with_stir_for(slices + stir, tmp_path)
    assert isinstance(found, Pair) and (found.stir is not None) == kept and found.warnings == ()


def test_a_study_of_t1_and_stir_without_t2_says_that_there_is_a_stir(tmp_path: Path) -> None:
    found = with_stir_for(dicoms.series(T1, name="t1") + dicoms.series(STIR, name="stir"), tmp_path / "whole")
    assert isinstance(found, Excluded)
    assert (found.rejected.reason, found.rule) == (Reason.STUDY_NO_SAGITTAL_T2, "P4")
    assert found.rejected.detail.startswith("stir 1, t1 1; a STIR is there")
    cut = dicoms.series(STIR, name="stir")
    del cut[4]
    found = with_stir_for(dicoms.series(T1, name="t1") + cut, tmp_path / "cut")
    assert isinstance(found, Excluded)
    assert found.rejected.detail == "stir refused series.missing_slice 1, t1 1"


def test_a_classifier_of_t1_and_stir_takes_stir_for_a_missing_t2(tmp_path: Path) -> None:
    slices = dicoms.series(T1, name="t1") + dicoms.series(STIR, name="stir") + dicoms.series(STIR, name="few", n=9)
    (found,) = pair_for(T1_AND_STIR, slices, tmp_path)
    assert isinstance(found, Pair)
    assert list(found.contrasts) == ["t1", "stir"]
    assert found.t2 == found.contrasts["stir"] == found.stir
    assert found.t2.series_uid == dicoms.uid("patient-1", "study", "stir")
    assert (found.rule, found.warnings) == ("P8, P13", ("no T2: discs were found and graded on STIR",))
    assert [(one.rule, one.t2.n_slices) for one in found.others] == [("P8, P10, P13", 9)]


def test_where_there_is_a_t2_discs_are_found_on_it_whatever_is_graded(tmp_path: Path) -> None:
    (found,) = pair_for(T1_AND_STIR, dicoms.study() + dicoms.series(STIR, name="stir"), tmp_path)
    assert isinstance(found, Pair)
    assert (list(found.contrasts), found.rule, found.t2.contrast) == (["t1", "t2", "stir"], "P7", "t2")


@pytest.mark.parametrize(
    ("contrasts", "frame", "reason", "rule"),
    [
        (T1_AND_STIR, None, Reason.STUDY_FRAMES_DIFFER, "P5, P13"),  # mutual information is no judge of T1 and STIR
        (THREE, "", Reason.STUDY_NO_SAGITTAL_T2, "P4"),
        (TWO, "", Reason.STUDY_NO_SAGITTAL_T2, "P4"),
    ],
)
def test_t1_and_stir_are_not_always_enough(
    contrasts: Sequence[str], frame: str | None, reason: Reason, rule: str, tmp_path: Path
) -> None:
    stir = dicoms.series(STIR, name="stir")
    changes = {} if frame == "" else {"FrameOfReferenceUID": frame}
    (found,) = pair_for(contrasts, dicoms.series(T1, name="t1") + changed(stir, **changes), tmp_path)
    assert isinstance(found, Excluded)
    assert (found.rejected.reason, found.rule) == (reason, rule)


@pytest.mark.parametrize(("third", "graded"), [("t2", True), ("stir", False), ("unknown", False)])
def test_where_only_the_pixels_tell_t2_from_stir_the_same_rows_hold(third: Any, graded: bool, tmp_path: Path) -> None:
    """The RSNA 2024 kind: no times, no frame of reference, and a second sagittal series of T2 or STIR."""
    shown = {"a": "t1", "b": "stir", "c": third}
    slices = [one for name in shown for one in dicoms.series({}, name=name)]
    dicoms.write(changed(slices, FrameOfReferenceUID=None, RepetitionTime=None, EchoTime=None), tmp_path)
    found = identify(crawl(tmp_path, index=None).headers, contrasts=THREE, options=IdentifyOptions())
    assert all(map(is_unclear, found))
    contrast_of = {dicoms.uid("patient-1", "study", name): contrast for name, contrast in shown.items()}
    known = [with_contrast(one, ContrastFinding(contrast_of[one.series_uid], "pixels"), THREE) for one in found]  # type: ignore[arg-type]
    (outcome,) = pair(known, contrasts=TWO, options=PairOptions())
    if graded:
        assert isinstance(outcome, Pair) and outcome.stir is not None
        assert (outcome.rule, outcome.check_images, outcome.check_stir) == ("P9", True, True)
    else:
        assert isinstance(outcome, Excluded) and outcome.rejected.reason is Reason.STUDY_NO_SAGITTAL_T2
        assert outcome.rejected.detail.endswith(STIR_THERE)


def test_a_stir_of_uneven_spacing_is_refused_for_its_spacing_only_if_stir_is_asked_for(tmp_path: Path) -> None:
    slices = dicoms.series(STIR, name="stir")
    del slices[4]
    dicoms.write(slices, tmp_path)
    headers = crawl(tmp_path, index=None).headers
    for contrasts, reason in ((THREE, Reason.SERIES_MISSING_SLICE), (("t1", "t2"), Reason.SERIES_NOT_T1_OR_T2)):
        (stir,) = identify(headers, contrasts=contrasts, options=IdentifyOptions())
        assert stir.rejected is not None and stir.rejected.reason is reason


def test_one_patient_id_with_two_birth_dates_is_a_warning(tmp_path: Path) -> None:
    slices = changed(dicoms.study(study=1, n=6), PatientBirthDate="19500101")
    slices += changed(dicoms.study(study=2, n=6), PatientBirthDate="19800101")
    slices += dicoms.study(study=3, patient="somebody else", n=6)
    found = {one.study_uid: one.warnings for one in pairs_of(slices, tmp_path) if isinstance(one, Pair)}
    warnings = ("PatientID under several PatientBirthDate or PatientSex",)
    assert [found[slices[index].StudyInstanceUID] for index in (0, 12, -1)] == [warnings, warnings, ()]


@pytest.mark.parametrize(
    "changes", [{"PatientBirthDate": "19330101"}, {"PatientSex": "M"}, {"PatientID": "somebody else"}]
)
def test_one_slice_of_another_patient_excludes_the_study(changes: dict[str, Any], tmp_path: Path) -> None:
    slices = changed(dicoms.study(), PatientBirthDate="19610203", PatientSex="F")
    (found,) = pairs_of(changed(slices, [16], **changes), tmp_path)
    assert isinstance(found, Excluded)
    assert (found.rejected.reason, found.rule) == (Reason.STUDY_PATIENT_CONFLICT, "P1")


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # what old scanners wrote
def test_one_patient_written_in_two_ways_is_one(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), PatientBirthDate="19610203", PatientSex="F")
    changed(slices, slice(0, 11), PatientBirthDate="1961.02.03", PatientSex="f")  # as ACR-NEMA wrote dates
    changed(slices, slice(11, 14), PatientBirthDate="00000000", PatientSex="", PatientID="")
    found = chosen(slices, tmp_path)
    assert (found.t1.n_slices, found.t2.n_slices, found.patient_id) == (11, 11, "patient-1")


@pytest.mark.parametrize("nameless", [slice(0, 11), slice(11, 22), slice(16, 22)])
def test_images_that_name_no_patient_are_of_the_only_one_of_their_study(nameless: slice, tmp_path: Path) -> None:
    found = chosen(changed(dicoms.study(), nameless, PatientID=""), tmp_path)
    assert (found.t1.n_slices, found.t2.n_slices) == (11, 11)
    assert {found.patient_id, found.t1.patient_id, found.t2.patient_id} == {"patient-1"}


def test_placeholders_are_no_second_patient_and_link_no_studies(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), PatientBirthDate="19610203")
    changed(slices, slice(11, None), PatientBirthDate="19000101")
    assert chosen(slices, tmp_path / "one").warnings == ()
    both = dicoms.study(study=1, patient="ANONYMOUS") + dicoms.study(study=2, patient="ANONYMOUS")
    assert len({one.patient_id for one in pairs_of(both, tmp_path / "two")}) == 2


def test_half_a_series_whose_other_half_lies_in_another_study_is_refused(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), slice(16, None), StudyInstanceUID="1.2.3")
    found = pairs_of(slices, tmp_path)
    assert [one.rejected.reason for one in found if isinstance(one, Excluded)] == [
        Reason.STUDY_NO_SAGITTAL_T1_NOR_T2,
        Reason.STUDY_NO_SAGITTAL_T2,
    ]
    assert all("series.missing_slice" in one.rejected.detail for one in found if isinstance(one, Excluded))


def test_half_a_series_whose_other_half_has_another_series_uid_is_refused(tmp_path: Path) -> None:
    (found,) = pairs_of(changed(dicoms.study(), slice(16, None), SeriesInstanceUID="1.2.3"), tmp_path)
    assert isinstance(found, Excluded)
    assert "t2 refused series.missing_slice 2" in found.rejected.detail


def test_a_series_run_twice_a_little_aside_is_two(tmp_path: Path) -> None:
    aside = dicoms.series(T2, name="again", origin=(-22.5 + 2.25, -5.5, 7.5))
    assert len(chosen(dicoms.study() + aside, tmp_path).choices) == 2


def test_whole_series_of_one_uid_in_two_studies_are_two(tmp_path: Path) -> None:
    again = changed(dicoms.study(), StudyInstanceUID="1.2.3")
    assert all(isinstance(one, Pair) for one in pairs_of(dicoms.study() + again, tmp_path))


def test_one_result_a_study(tmp_path: Path) -> None:
    slices = [s for number in range(3) for s in dicoms.study(study=number, patient=f"p{number}", n=6)]
    slices += dicoms.series(T1, study="lonely", n=6)
    found = pairs_of(slices, tmp_path)
    assert [type(one).__name__ for one in found].count("Pair") == 3
    assert len({one.study_uid for one in found}) == len(found) == 4


def test_hitachi_study_is_paired(shared_data: Path) -> None:
    found = identify(crawl(shared_data / "hitachi-lspine", index=None).headers, options=IdentifyOptions())
    (pair_,) = pair(found, options=PairOptions())
    assert isinstance(pair_, Pair)
    assert (pair_.t1.echo_time_ms, pair_.t2.echo_time_ms, pair_.overlap_fraction) == (25, 110, 1.0)


@pytest.mark.parametrize(
    ("rows", "columns", "orientation", "said"),
    [
        (128, 16, None, True),  # 640 mm high
        (64, 16, None, False),  # 320 mm
        (16, 128, [0.0, 0, -1, 0, 1, 0], True),  # rows along the back
        (128, 16, dicoms.CORONAL, False),
    ],
)
def test_a_series_of_the_whole_spine_is_said(
    rows: int, columns: int, orientation: list[float] | None, said: bool, tmp_path: Path
) -> None:
    values = dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    size = {"rows": rows, "columns": columns, "spacing": (5.0, 5.0), "orientation": orientation}
    found = chosen(dicoms.study() + dicoms.series(values, name="localizer", n=3, **size), tmp_path)
    assert (WARNING in found.warnings) == (found.whole_spine is not None) == said
    assert found.t2.series_uid == dicoms.uid("patient-1", "study", "t2")


WHOLE: dict[str, Any] = {"rows": 128, "columns": 48, "spacing": (5.0, 5.0)}


@pytest.mark.parametrize(
    ("localizer", "changes", "kept"),
    [
        ({"n": 2, "gap": 15.0}, {}, True),
        ({"n": 7}, {"ImageType": ["DERIVED", "SECONDARY", "COMPOSED"]}, True),
        ({"n": 3}, {"FrameOfReferenceUID": "1.2.3"}, False),
        ({"n": 3}, {"FrameOfReferenceUID": None}, False),
        ({"n": 3}, {"StudyDate": "20200103"}, False),
        ({"n": 3}, {"PixelSpacing": None}, False),
        ({"n": 1}, {}, False),
    ],
)
def test_a_whole_spine_is_kept_beside_a_pair_if_its_place_is_known(
    localizer: dict[str, Any], changes: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    slices = changed(dicoms.series(T2, name="localizer", **WHOLE, **localizer), **changes)
    found = chosen(dicoms.study() + slices, tmp_path)
    assert (found.whole_spine is not None) == kept
    names = ["t1", "t2", *["localizer"] * kept]
    assert [one.series_uid for one in found.series] == [dicoms.uid("patient-1", "study", name) for name in names]


def test_a_whole_spine_with_a_slice_missing_is_not_counted_on(tmp_path: Path) -> None:
    values = dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # refused for that before its slices are asked
    slices = dicoms.series(values, name="localizer", n=7, **WHOLE)
    found = chosen(dicoms.study() + slices[:3] + slices[4:], tmp_path)
    assert WARNING in found.warnings and found.whole_spine is None


def test_of_several_whole_spines_the_finest_of_t1_or_t2_is_counted_on_with_every_pair(tmp_path: Path) -> None:
    localizer = dicoms.t2(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    finest = dicoms.series(localizer, name="a", n=6, **{**WHOLE, "rows": 640, "spacing": (1.0, 1.0)})
    coarse = dicoms.series(T2, name="b", n=6, **{**WHOLE, "rows": 100, "spacing": (6.0, 6.0)})
    finer = dicoms.series(T2, name="c", n=6, **WHOLE)
    again = dicoms.series(T2, name="again", n=9)
    found = chosen(dicoms.study() + again + finest + coarse + finer, tmp_path)
    assert len(found.choices) > 1
    for one in found.choices:
        assert one.whole_spine is not None
        assert one.whole_spine.series_uid == dicoms.uid("patient-1", "study", "c")


@pytest.mark.parametrize(
    "t1, t2, paired",
    [
        ({"n": 11}, {"n": 13}, True),
        ({"n": 11}, {"n": 20, "gap": 3.0}, True),  # 60 mm of a 3D T2 over 48 mm of T1
        ({"rows": 64}, {"rows": 100}, True),  # a T1 that holds L1 to S1 only
        ({"rows": 20}, {"rows": 100}, False),
        ({"n": 6, "origin": (-22.5, -5.5, 7.5)}, {"n": 11}, False),  # half a stack
    ],
)
def test_a_t1_need_only_hold_the_slices_that_are_graded(
    t1: dict[str, Any], t2: dict[str, Any], paired: bool, tmp_path: Path
) -> None:
    (found,) = pairs_of(dicoms.series(T1, name="a", **t1) + dicoms.series(T2, name="b", **t2), tmp_path)
    assert isinstance(found, Pair) == paired
    if isinstance(found, Excluded):
        assert found.rejected.reason == Reason.STUDY_LITTLE_OVERLAP


def test_a_smaller_t1_of_no_named_frame_is_paired_if_the_images_agree(tmp_path: Path) -> None:
    slices = dicoms.series(T1, name="a") + dicoms.series(T2, name="b", n=13)
    found = chosen(changed(slices, FrameOfReferenceUID=None), tmp_path)
    assert (found.rule, found.check_images) == ("P9", True)
