"""Where slices lie, and whether they make a regular stack. Millimetres are patient coordinates (LPS)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.config import IdentifyOptions
from modic.errors import Reason, Rejected
from modic.records import Plane, SeriesWarning, WarningKind

SAME_PLACE_MM = 0.01
ORTHONORMAL = 0.01  # largest error of the length of a row or column direction, and of the cosine between them
PIXEL_MM = (0.05, 5.0)  # smallest and largest PixelSpacing of an MR image of the spine
MAX_SPACING_MM = 30.0  # between slices; sagittal slices of the lumbar spine lie 1 to 6 mm apart
NEAR_MULTIPLE = 0.15
"""A gap means missing slices if it differs from 2, 3, … spacings by at most this share of one; else uneven spacing."""
AXES: dict[int, Plane] = {0: "sagittal", 1: "coronal", 2: "axial"}


@dataclass(frozen=True, slots=True)
class Regularity:
    """How evenly the slices of a stack lie. `spacing_mm` is along the normal, None for fewer than two places."""

    spacing_mm: float | None
    rejected: Rejected | None = None
    warnings: tuple[SeriesWarning, ...] = ()


def positions_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """(n, 3) float64: ImagePositionPatient of header rows in LPS mm; nan for a row without one."""
    missing = [np.nan] * 3
    values = [row["ImagePositionPatient"] for row in rows]
    return np.array([v if v is not None and len(v) == 3 else missing for v in values], float).reshape(-1, 3)


def normal_of(orientation: Any) -> np.ndarray | None:
    """Unit slice normal (3,) of an ImageOrientationPatient: row direction × column direction, LPS.

    None if the value is no orientation: not six numbers, or directions that are not of length 1 and perpendicular to
    within `ORTHONORMAL`. For upright sagittal slices (rows to posterior, columns to the feet) the normal points to the
    patient's right; `leftward` turns it to the left.
    """
    values = np.asarray(orientation if orientation is not None else [], float)
    if values.shape != (6,):
        return None
    row, column = values[:3], values[3:]
    sizes = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(size - 1) for size in (*sizes, 1 + row @ column)) > ORTHONORMAL:
        return None
    (a, b, c), (d, e, f) = row, column
    normal = np.array([b * f - c * e, c * d - a * f, a * e - b * d])  # np.cross, which takes ten times as long
    return normal / np.linalg.norm(normal)


def leftward(normal: np.ndarray) -> np.ndarray:
    """`normal` (3,) or its opposite: whichever points to the patient's left, posterior or head along its main axis."""
    return normal if normal[int(np.argmax(np.abs(normal)))] > 0 else -normal


def plane_of(normal: np.ndarray | None, options: IdentifyOptions) -> tuple[Plane, float]:
    """The plane, and the angle in degrees between the slice normal (3,) and the nearest patient axis."""
    if normal is None:
        return "unknown", 0.0
    axis = int(np.argmax(np.abs(normal)))
    angle = float(np.degrees(np.arccos(min(1.0, abs(normal[axis])))))
    return (AXES[axis] if angle <= options.sagittal_reject_deg else "oblique"), angle


def regularity(positions: np.ndarray, normal: np.ndarray, options: IdentifyOptions) -> Regularity:
    """Whether slices at `positions` (n, 3) in mm, sorted along `normal` (3,), are evenly spaced.

    | condition                                                            | outcome                |
    |----------------------------------------------------------------------|------------------------|
    | two slices at one place                                              | conflicting_slices     |
    | the median step is over `MAX_SPACING_MM`                             | no_spacing             |
    | a step is within `NEAR_MULTIPLE` of 2, 3, … times the median step    | missing_slice          |
    | a step differs by more than `spacing_reject` from the median step    | uneven_spacing         |
    | … by more than `spacing_warn`                                        | a warning              |

    Steps are compared as vectors, so that a slice that is shifted within its plane counts as uneven too.
    """
    if len(positions) < 2:
        return Regularity(None)
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    if along.min() < SAME_PLACE_MM:
        return Regularity(
            None, Rejected(Reason.SERIES_CONFLICTING_SLICES, f"{int((along < SAME_PLACE_MM).sum())} places")
        )
    spacing = float(np.median(along))
    if spacing > MAX_SPACING_MM:
        return Regularity(spacing, Rejected(Reason.SERIES_NO_SPACING, f"slices {spacing:.0f} mm apart"))
    multiples = along / spacing
    gaps = (np.round(multiples) >= 2) & (np.abs(multiples - np.round(multiples)) <= NEAR_MULTIPLE)
    if gaps.any():
        missing = int((np.round(multiples[gaps]) - 1).sum())
        return Regularity(
            spacing, Rejected(Reason.SERIES_MISSING_SLICE, f"{missing} missing, spacing {spacing:.2f} mm")
        )
    deviation = float(np.linalg.norm(steps - np.median(steps, axis=0), axis=1).max()) / spacing
    if deviation > options.spacing_reject:
        return Regularity(
            spacing, Rejected(Reason.SERIES_UNEVEN_SPACING, f"deviation {deviation:.0%} of {spacing:.2f} mm")
        )
    warning = SeriesWarning(WarningKind.SLICE_SPACING_VARIES, f"{deviation:.1%}")
    return Regularity(spacing, None, (warning,) if deviation > options.spacing_warn else ())
