"""The patient's identity from DICOM headers. One value may be written in two ways; two values mean two patients."""

from collections.abc import Iterable
from datetime import date
from typing import Any

IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex")
Header = dict[str, Any]


def identity_value(header: Header, keyword: str) -> str | None:
    """The value of a keyword of IDENTITY, written in one way; None if the header has none.

    A birth date that is no date (`00000000`) and a sex other than F, M or O count as none.
    """
    text = str(header.get(keyword) or "").strip()
    if keyword == "PatientBirthDate":
        return str(dicom_date(text) or "") or None
    if keyword == "PatientSex":
        return text.upper() if text.upper() in ("F", "M", "O") else None
    return text or None


def identity_values(headers: Iterable[Header]) -> dict[str, set[str]]:
    """All different values under each keyword of IDENTITY."""
    texts: dict[str, set[Any]] = {keyword: set() for keyword in IDENTITY}
    for header in headers:
        for keyword, values in texts.items():
            values.add(header.get(keyword))
    return {
        keyword: {value for text in values if (value := identity_value({keyword: text}, keyword))}
        for keyword, values in texts.items()
    }


def dicom_date(value: Any) -> date | None:
    """A DICOM date (`20240131`), None if it is blank or no date."""
    digits = str(value or "").strip().replace(".", "")  # ACR-NEMA wrote dots
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None
