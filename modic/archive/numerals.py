"""Numbers as headers write them: `7.5`, and also `7,5`, `15 ml` or `0,15 s`."""

import re
from typing import Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

NUMBER = re.compile(r"([+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?)\s*([^\d\s.,+-]\S*)?", re.IGNORECASE)
MS, MM = {"ms": 1.0, "msec": 1.0, "s": 1000.0, "sec": 1000.0}, {"mm": 1.0, "cm": 10.0}
TESLA, AMOUNT = {"t": 1.0, "tesla": 1.0}, {"ml": 1.0, "cc": 1.0, "l": 1000.0, "mmol": 1.0, "mg": 1.0, "g": 1000.0}
UNITS = {
    **dict.fromkeys(("RepetitionTime", "EchoTime", "InversionTime"), MS),
    **dict.fromkeys(("SliceThickness", "SpacingBetweenSlices", "PixelSpacing", "ImagePositionPatient"), MM),
    **dict.fromkeys(("ContrastBolusVolume", "ContrastBolusTotalDose"), AMOUNT),
    "MagneticFieldStrength": TESLA,
    "FlipAngle": {"deg": 1.0, "degrees": 1.0, "°": 1.0},
}
"""Keyword → unit that may stand behind its number, and how many of DICOM's unit it is."""
MOST = 1e300  # floats from here on are placeholders, or overflow


def number(value: Any, keyword: str = "") -> float:
    """A finite float. A decimal comma is a point; a unit of `UNITS` is converted. Raises ValueError for all else."""
    try:
        found = float(value)
    except ValueError:
        match = NUMBER.fullmatch(str(value).strip())
        if match is None:
            raise
        unit = (match[2] or "").lower()
        factor = UNITS.get(keyword, {}).get(unit) if unit else 1.0
        if factor is None:
            raise
        found = float(match[1].replace(",", ".")) * factor
    if not abs(found) < MOST:
        raise ValueError("not finite")
    return found


def number_in(item: Dataset, keyword: str) -> float | None:
    """The first number of an element of a data set; None if it is absent or empty. Raises ValueError as `number`."""
    values = values_in(item, keyword)
    return number(values[0], keyword) if values else None


def values_in(item: Dataset, keyword: str) -> list[Any]:
    """The values of an element as the file holds them, not yet numbers; empty if there are none."""
    if keyword not in item:
        return []
    element = item.get_item(keyword)
    if isinstance(element, RawDataElement) and element.VR in ("DS", "IS"):  # pydicom would raise at `7,5`
        text = (element.value or b"").decode("ascii", "replace")
        values = [part.strip(" \0") for part in text.split("\\")]
    else:
        value = item[keyword].value
        values = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return values if any(value not in (None, "") for value in values) else []
