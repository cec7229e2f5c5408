"""Whom a header says it shows: one person written in two ways is one, and two in one series are two."""

from collections.abc import Iterable
from datetime import date
from typing import Any

IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex")
Header = dict[str, Any]


def said(header: Header, keyword: str) -> str | None:
    """What `header` says under a keyword of IDENTITY, written in one way; None where it says nothing.

    A birth date is a date (`00000000` is none), a sex F, M or O; anything else there says nothing.
    """
    text = str(header.get(keyword) or "").strip()
    if keyword == "PatientBirthDate":
        return str(day(text) or "") or None
    if keyword == "PatientSex":
        return text.upper() if text.upper() in ("F", "M", "O") else None
    return text or None


def all_said(headers: Iterable[Header]) -> dict[str, set[str]]:
    """Everything that is said under each of IDENTITY."""
    texts: dict[str, set[Any]] = {keyword: set() for keyword in IDENTITY}
    for header in headers:
        for keyword, values in texts.items():
            values.add(header.get(keyword))
    return {
        keyword: {value for text in values if (value := said({keyword: text}, keyword))}
        for keyword, values in texts.items()
    }


def day(value: Any) -> date | None:
    """A DICOM date, None where blank or no date."""
    digits = str(value or "").strip().replace(".", "")  # ACR-NEMA wrote dots
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None
