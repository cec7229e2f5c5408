"""Whether a series shows the whole spine, and on which one of a study the discs are counted from C2.

A lumbar image cannot tell how many vertebrae there are; names count from the last mobile disc above the sacrum. Where a
study holds a series of the whole spine, a warning says so, and if it lies in the T2's frame of reference discs are
counted on it (modic/levels/count_from_c2.py). It may be of any contrast, and of few slices: a localizer is enough.
"""

from collections.abc import Iterable

import numpy as np

from modic.config import IdentifyOptions
from modic.errors import Reason
from modic.records import Series, WarningKind
from modic.series.geometry import leftward, normal_of, regularity

WHOLE_SPINE_MM = 550.0  # lumbar images are 250 to 450 mm high; from C2 to the sacrum it is 550 mm and more
WARNING = "a sagittal series of the whole spine is there, on which vertebrae can be counted from C2"
COUNTABLE = (Reason.SERIES_NOT_T1_OR_T2, Reason.SERIES_ROLE_UNSURE, Reason.SERIES_TOO_FEW_SLICES)
"""Reasons that keep a series from being graded, but not from being counted on."""


def shows_whole_spine(series: Series) -> bool:
    """Whether a sagittal series, usable for grading or not, is high enough for everything from C2 to the sacrum."""
    return series.plane == "sagittal" and height_mm(series) >= WHOLE_SPINE_MM


def best_to_count_on(series: Iterable[Series]) -> Series | None:
    """Of series in one frame of reference the best to count on: rather one that could be graded, then finer pixels."""
    whole = [one for one in series if shows_whole_spine(one) and can_be_counted_on(one)]
    return min(
        whole, key=lambda one: (bool(one.rejected), one.pixel_spacing_mm, one.series_uid, one.stack), default=None
    )


def can_be_counted_on(series: Series) -> bool:
    """Whether its images can be read and its geometry is sound: two even slices or more, of one orientation."""
    normal = normal_of(series.header["ImageOrientationPatient"])
    if series.rejected and series.rejected.reason not in COUNTABLE:
        return False
    if normal is None or series.pixel_spacing_mm is None or len(series.positions_mm) < 2:
        return False
    turned = any(warning.kind is WarningKind.ORIENTATION_DIFFERS for warning in series.warnings)
    even = regularity(np.array(series.positions_mm), leftward(normal), IdentifyOptions())  # refused ones were not asked
    return not turned and even.rejected is None


def height_mm(series: Series) -> float:
    """Height of the field of view along the patient's long axis; 0 where the header does not tell."""
    header = series.header
    orientation, size = header.get("ImageOrientationPatient"), (header.get("Rows"), header.get("Columns"))
    if series.pixel_spacing_mm is None or orientation is None or len(orientation) != 6 or None in size:
        return 0.0
    between_rows, between_columns = series.pixel_spacing_mm
    along_column = abs(orientation[5]) * header["Rows"] * between_rows
    along_row = abs(orientation[2]) * header["Columns"] * between_columns
    return float(max(along_column, along_row))
