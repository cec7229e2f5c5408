"""The patient's identity from DICOM headers. One value may be written in two ways; two values mean two patients."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import date
from typing import Any

IDENTITY = ("PatientID", "PatientBirthDate", "PatientSex")
Header = dict[str, Any]
PLACEHOLDER_DATES = frozenset(
    date.fromisoformat(day)
    for day in ("0001-01-01", "1800-01-01", "1841-01-01", "1899-12-30", "1900-01-01", "1901-01-01", "9999-12-31")
)
"""Dates that anonymizers and old systems write for none."""
PLACEHOLDER_IDS = re.compile(
    r"(0+|x+|\?+|-+|n/?a|null|none|nil|unknown|unbekannt|anon(ym(ous|ized|ised|e|us)?)?|de-?identified|removed"
    r"|redacted|dummy|no ?(id|name)|not (known|available)|patient|test)",
    re.IGNORECASE,
)
"""PatientIDs that name nobody, so that they link no studies."""
SEXES = {"F": "F", "M": "M", "O": "O", "FEMALE": "F", "MALE": "M", "OTHER": "O"}
DATE = re.compile(r"(\d{4})([-./]?)(\d\d)\2(\d\d)([ T]?\d\d:?\d\d.*)?")
"""`20240131`; ACR-NEMA wrote dots, converters write `2024-01-31`, and a time behind it."""
OLDEST_EVER = 120  # years
AGE_DIFFERS = 2  # years by which an age from the birth date and PatientAge may differ: one is rounded


def one_way(text: str) -> str:
    """An id as it looks: without blanks around it and without letters that nobody sees (zero-width, byte order).

    An accented letter may be written as one or as two; they are joined.
    """
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c) != "Cf")).strip()


def identity_value(header: Header, keyword: str) -> str | None:
    """The value of a keyword of IDENTITY, written in one way; None if the header has none.

    A birth date that is no date (`00000000`) or a placeholder, a sex other than those of `SEXES`, and an id that names
    nobody (`ANONYMOUS`) count as none.
    """
    text = one_way(str(header.get(keyword) or ""))
    if keyword == "PatientBirthDate":
        born = dicom_date(text)
        return str(born) if born and born not in PLACEHOLDER_DATES else None
    if keyword == "PatientSex":
        return SEXES.get(text.upper())
    return text if text and not PLACEHOLDER_IDS.fullmatch(text) else None


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


def age_years(header: Header) -> tuple[int | None, str]:
    """Completed years at the study, and why what the header says of it is not believed (empty if it is).

    From the birth date, else from PatientAge (`045Y`, `018M`, …). A birth date on or after the day of the study, a
    placeholder, an age over `OLDEST_EVER`, and two ages that differ by more than `AGE_DIFFERS`
    years contradict: then there is none.
    """
    born, then = dicom_date(header.get("PatientBirthDate")), study_date(header)
    named = _named_age(header.get("PatientAge"))
    if named is not None and named > OLDEST_EVER:
        return None, "PatientAge is implausible"
    if born in PLACEHOLDER_DATES:
        return None, "PatientBirthDate is a placeholder"
    if not (born and then):
        if is_no_date(header.get("PatientBirthDate")):
            return named, "PatientBirthDate is no date"
        return named, "PatientAge is no age" if named is None and _has_number(header.get("PatientAge")) else ""
    age = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    if born >= then:
        return None, "PatientBirthDate is not before StudyDate"
    if age > OLDEST_EVER:
        return None, "PatientBirthDate is implausible"
    if named is not None and abs(named - age) > AGE_DIFFERS:
        return None, "PatientBirthDate contradicts PatientAge"
    return age, ""


def _named_age(value: Any) -> int | None:
    text = str(value or "").strip().upper()
    per_year = {"Y": 1, "M": 12, "W": 52, "D": 365}.get(text[-1:], 0)
    return int(text[:-1]) // per_year if per_year and text[:-1].isdigit() else None


def study_date(header: Header) -> date | None:
    """StudyDate; None if it is blank, no date or a placeholder."""
    then = dicom_date(header.get("StudyDate"))
    return None if then in PLACEHOLDER_DATES else then


def is_no_date(value: Any) -> bool:
    """Whether text is there that is meant as a date and is none; zeros and words stand for none."""
    return _has_number(value) and dicom_date(value) is None


def _has_number(value: Any) -> bool:
    return re.search("[1-9]", str(value or "")) is not None


def dicom_date(value: Any) -> date | None:
    """The date of a text as `DATE` has it, None if it is blank or no date."""
    parts = DATE.fullmatch(str(value or "").strip())
    try:
        return date(int(parts[1]), int(parts[3]), int(parts[4])) if parts else None
    except ValueError:
        return None
