"""A T1 after a contrast agent is never used: across midnight, across studies, and whatever names the agent."""

from pathlib import Path
from typing import Any

import pytest

import dicoms
from adversaries import changed
from modic.archive.crawl import crawl
from modic.config import IdentifyOptions, PairOptions
from modic.errors import Reason
from modic.records import Excluded, Pair
from modic.series.identify import identify
from modic.series.pair import pair

DAY, NEXT = "20200102", "20200103"


def outcome(slices: list[Any], folder: Path) -> Pair | Excluded:
    """What becomes of the study that has a sagittal T2."""
    dicoms.write(slices, folder)
    found = pair(identify(crawl(folder, index=None).headers, options=IdentifyOptions()), options=PairOptions())
    t2 = next(slice_ for slice_ in slices if slice_.EchoTime == 100)
    return next(one for one in found if one.study_uid == t2.StudyInstanceUID)


def agent(study: str = "study", **values: Any) -> list[Any]:
    """An axial T1 that names an agent."""
    made = dicoms.t1(ContrastBolusAgent="Gadovist")
    return changed(dicoms.series(made, name="axial", study=study, orientation=dicoms.AXIAL, n=6), **values)


def at(time: str, day: str | None = None, **more: Any) -> dict[str, Any]:
    return {"AcquisitionTime": time, **({"AcquisitionDate": day} if day else {}), **more}


@pytest.mark.parametrize(
    "agent_at, t1_at, usable",
    [
        (at("235000", DAY), at("000500", NEXT), False),
        (at("000500", NEXT), at("235000", DAY), True),
        (at("235000"), at("000500"), False),  # StudyDate alone, and it is one for both
        (at("000500"), at("235000"), True),
        (at("235000", DAY), at("000500", DAY), False),  # the date stands still
        (at("100000", DAY), at("095900", DAY), True),
        (at("100000", DAY), at("100100", DAY), False),
        ({"SeriesTime": "235000", "SeriesDate": DAY}, {"SeriesTime": "000500", "SeriesDate": NEXT}, False),
        ({"SeriesTime": "000500", "SeriesDate": NEXT}, {"SeriesTime": "235000", "SeriesDate": DAY}, True),
        ({"AcquisitionDateTime": f"{DAY}235000.5"}, {"AcquisitionDateTime": f"{NEXT}000500+0100"}, False),
        ({"AcquisitionDateTime": f"{NEXT}000500.5"}, {"AcquisitionDateTime": f"{DAY}235000"}, True),
        (at("100000", DAY, ContrastBolusStartTime="095000"), at("095500", DAY), False),
        (at("100000", DAY, ContrastBolusStartTime="095000"), at("094500", DAY), True),
    ],
)
def test_dates_count_with_times(agent_at: dict[str, str], t1_at: dict[str, str], usable: bool, tmp_path: Path) -> None:
    found = outcome(changed(dicoms.study(), **t1_at) + agent(**agent_at), tmp_path)
    assert isinstance(found, Pair) == usable
    if isinstance(found, Excluded):
        assert (found.rejected.reason, found.rule) == (Reason.STUDY_NO_SAGITTAL_T1, "P3")
        assert "t1 after ContrastBolusAgent 1" in found.rejected.detail


@pytest.mark.parametrize(
    "agent_at, t1_at, usable",
    [
        (at("093000", DAY), at("100000", DAY), False),  # half an hour before
        (at("093000"), at("100000"), False),  # by StudyDate
        (at("233000", DAY), at("003000", NEXT), False),
        (at("103000", DAY), at("100000", DAY), True),
        (at("093000", "20191231"), at("100000", DAY), True),  # two days before
        (at("", DAY), at("100000", DAY), True),
    ],
)
def test_an_agent_of_another_study_of_the_patient(
    agent_at: dict[str, str], t1_at: dict[str, str], usable: bool, tmp_path: Path
) -> None:
    found = outcome(changed(dicoms.study(), **t1_at) + agent("other", **agent_at), tmp_path)
    assert isinstance(found, Pair) == usable


def test_the_agent_of_another_patient_is_none_of_ours(tmp_path: Path) -> None:
    other = changed(agent("other", **at("093000", DAY)), PatientID="somebody else")
    assert isinstance(outcome(changed(dicoms.study(), **at("100000", DAY)) + other, tmp_path), Pair)


def test_an_agent_that_only_the_description_of_another_series_names(tmp_path: Path) -> None:
    named = agent(**at("093000", DAY), ContrastBolusAgent="", SeriesDescription="AX T1 +C")
    assert isinstance(outcome(changed(dicoms.study(), **at("100000", DAY)) + named, tmp_path), Excluded)


@pytest.mark.parametrize(
    "first, second, used",
    [
        ("SAG T1", "SAG T1 XYZ", "first"),  # what XYZ means no list knows
        ("SAG T1", "SAG T1 REPEAT", "second"),
        ("SAG T1", "SAG T1 2", "second"),
        ("SAG T1", "SAG T1", "second"),
        ("SAG T1 XYZ", "SAG T1", "second"),
    ],
)
def test_a_later_t1_with_a_word_that_the_earlier_lacks_is_suspect(
    first: str, second: str, used: str, tmp_path: Path
) -> None:
    slices = changed(dicoms.study(), **at("100000", DAY), SeriesDescription=first)
    again = changed(dicoms.series(dicoms.t1(), name="again"), **at("101000", DAY), SeriesDescription=second)
    found = outcome(slices + again, tmp_path)
    assert isinstance(found, Pair)
    names = {dicoms.uid("patient-1", "study", "t1"): "first", dicoms.uid("patient-1", "study", "again"): "second"}
    assert names[found.t1.series_uid] == used
    assert len(found.choices) == 1 + (second not in ("SAG T1 XYZ",))


def test_of_two_t2_alike_in_all_but_a_word_the_one_without_it(tmp_path: Path) -> None:
    slices = changed(dicoms.study(), **at("100000", DAY), SeriesDescription="SAG T2")
    again = changed(dicoms.series(dicoms.t2(), name="again"), **at("101000", DAY), SeriesDescription="SAG T2 XYZ")
    found = outcome(slices + again, tmp_path)
    assert isinstance(found, Pair)
    assert [one.t2.series_uid for one in found.choices] == [
        dicoms.uid("patient-1", "study", name) for name in ("t2", "again")
    ]
