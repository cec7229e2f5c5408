"""What a row of `studies` takes from a header: ages of the oldest are alike."""

from typing import Any

import pytest

from modic.archive.patient_identity import identity_value
from modic.run.rows import age_years, identity_warnings


@pytest.mark.parametrize(
    "born, studied, age, years",
    [
        ("19500316", "20100315", "", 59),
        ("19500315", "20100315", "", 60),
        ("1950.03.15", "2010.03.15", "", 60),
        ("1950-03-15", "2010-03-15T10:15:00", "", 60),
        ("1950/03/15", "20100315101500.25", "", 60),
        ("15/03/1950", "20100315", "060Y", 60),
        ("1950-0315", "20100315", "", None),
        ("19500315", "20100315-20100316", "", None),
        ("19200315", "20100314", "", 89),
        ("19200315", "20100315", "", 90),
        ("19000315", "20100315", "", 90),
        ("", "20100315", "089Y", 89),
        ("", "20100315", "104Y", 90),
        ("", "", "018M", 1),
        ("20100316", "20100315", "045Y", None),
        ("20100315", "20100315", "", None),
        ("19000101", "20100315", "045Y", None),
        ("19000101", "20100315", "", None),
        ("19650101", "20100315", "045Y", 45),
        ("19640315", "20100315", "045Y", 46),  # rounded
        ("19300315", "20100315", "045Y", None),
        ("18850315", "20100315", "", None),
        ("", "20100315", "999Y", None),
        ("19500315", "19000101", "045Y", 45),
        ("", "20100315", "old", None),
        ("", "", "", None),
    ],
)
def test_age_in_completed_years_is_90_from_90_on(born: str, studied: str, age: str, years: int | None) -> None:
    header: dict[str, Any] = {"PatientBirthDate": born, "StudyDate": studied, "PatientAge": age}
    assert age_years(header) == years


@pytest.mark.parametrize(
    "header, warnings",
    [
        ({"PatientBirthDate": "19000101", "PatientAge": "045Y"}, ("PatientBirthDate is a placeholder",)),
        ({"PatientBirthDate": "20100316"}, ("PatientBirthDate is not before StudyDate",)),
        ({"PatientBirthDate": "18800101"}, ("PatientBirthDate is implausible",)),
        ({"PatientBirthDate": "19300315", "PatientAge": "045Y"}, ("PatientBirthDate contradicts PatientAge",)),
        ({"PatientAge": "999Y"}, ("PatientAge is implausible",)),
        ({"StudyDate": "19000101"}, ("StudyDate is a placeholder",)),
        ({"StudyDate": "15/03/2010"}, ("StudyDate is no date",)),
        ({"StudyDate": "20101102"}, ()),
        ({"StudyDate": "20101103"}, ("StudyDate is after the day of the run",)),
        ({"PatientBirthDate": "15/03/1950"}, ("PatientBirthDate is no date",)),
        ({"PatientBirthDate": "", "PatientAge": "45"}, ("PatientAge is no age",)),
        ({"PatientBirthDate": "", "PatientAge": "000Y"}, ()),
        ({"StudyDate": "00000000", "PatientBirthDate": "XXXX"}, ()),
        ({"PatientID": "ANONYMOUS"}, ("PatientID is a placeholder",)),
        ({"PatientID": "0000000"}, ("PatientID is a placeholder",)),
        ({"PatientID": "P0000001", "PatientBirthDate": "19650316", "PatientAge": "044Y"}, ()),
        ({}, ()),
    ],
)
def test_what_is_not_believed_is_said(header: dict[str, Any], warnings: tuple[str, ...]) -> None:
    assert identity_warnings({"StudyDate": "20100315", **header}, "20101101T200000Z-abcd") == warnings


def test_a_placeholder_is_no_identity() -> None:
    assert identity_value({"PatientBirthDate": "19000101"}, "PatientBirthDate") is None
    assert identity_value({"PatientID": "Anonymized"}, "PatientID") is None
    assert identity_value({"PatientID": "ANON0012"}, "PatientID") == "ANON0012"
    assert identity_value({"PatientSex": "Female"}, "PatientSex") == "F"
    assert identity_value({"PatientSex": "unknown"}, "PatientSex") is None


@pytest.mark.parametrize("text", ["MÜLL-1", "MU\u0308LL-1", " MÜLL-1 ", "\ufeffMÜLL-1", "MÜLL\u200b-1", "MÜLL-1\u00a0"])
def test_an_id_that_looks_the_same_is_the_same(text: str) -> None:
    assert identity_value({"PatientID": text}, "PatientID") == "MÜLL-1"
    assert identity_value({"PatientID": text.lower()}, "PatientID") != "MÜLL-1"
