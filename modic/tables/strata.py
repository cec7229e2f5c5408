"""What studies are told apart by in samples, on pages and in comparisons: scanner, field strength, year."""

from collections.abc import Callable, Mapping
from typing import Any

UNKNOWN = "unknown"
FIELDS_T = ((0.0, 0.9, "under 0.9 T"), (0.9, 2.0, "0.9–2 T"), (2.0, 99.0, "over 2 T"))
"""Field strengths from, to (tesla), and the name of the stratum: low field, 1 and 1.5 T, 3 T and more."""
Study = Mapping[str, Any]
"""A row of the table `studies`, or some of its columns."""


def scanner_name(study: Study, *, field: bool = False) -> str:
    """Manufacturer and model, with `field` also the field strength: `SIEMENS Aera 1.5 T`; empty if nothing is known."""
    strength = study["field_strength_t"] if field else None
    parts = (study["manufacturer"], study["scanner_model"], f"{strength:g} T" if strength else "")
    return " ".join(str(part) for part in parts if part)


def field_name(strength: float | None) -> str:
    """The stratum of a field strength in tesla."""
    if strength is None:
        return "unknown field"
    return next((name for low, high, name in FIELDS_T if low <= strength < high), "unknown field")


GROUPS: dict[str, Callable[[Study], str]] = {
    "scanner": lambda study: scanner_name(study, field=True) or UNKNOWN,
    "field strength": lambda study: field_name(study["field_strength_t"]),
    "year": lambda study: str(study["study_year"] or UNKNOWN),
}
"""What the features of a cohort are compared by (modic/statistics/drift.py)."""
STUDY_COLUMNS = ("study_key", "patient_key", "manufacturer", "scanner_model", "field_strength_t", "study_year")
"""The columns of `studies` that these need, and the keys."""
