"""What a row of `studies` takes from a header: ages of the oldest are alike."""

from typing import Any

import pytest

from modic.run.rows import age_years


@pytest.mark.parametrize(
    "born, studied, age, years",
    [
        ("19500316", "20100315", "", 59),
        ("19500315", "20100315", "", 60),
        ("1950.03.15", "2010.03.15", "", 60),
        ("19200315", "20100314", "", 89),
        ("19200315", "20100315", "", 90),
        ("19000315", "20100315", "", 90),
        ("", "20100315", "089Y", 89),
        ("", "20100315", "104Y", 90),
        ("", "", "018M", 1),
        ("20100316", "20100315", "045Y", 45),
        ("", "20100315", "old", None),
        ("", "", "", None),
    ],
)
def test_age_in_completed_years_is_90_from_90_on(born: str, studied: str, age: str, years: int | None) -> None:
    header: dict[str, Any] = {"PatientBirthDate": born, "StudyDate": studied, "PatientAge": age}
    assert age_years(header) == years
