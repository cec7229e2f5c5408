"""A T1 and a T2 that may be graded together: what the T1 covers of the T2, and which combination is the best.

Overlap is the share of points on T2's slices that lie inside the T1 stack. The points fill the whole height of the
image, but only the middle half from front to back; the rest is belly and skin.
"""

from dataclasses import dataclass

import numpy as np

from modic.archive.patient_identity import dicom_date
from modic.config import PairOptions
from modic.imaging.volume import affine_of, slice_step
from modic.records import Series, WarningKind
from modic.series.acquisition import moment, reconstruction
from modic.series.alike import SAME_ORIENTATION, nearly
from modic.series.contrast import has_contrast_agent

HEIGHT_POINTS, DEPTH_POINTS = 65, 9
MIDDLE_SLICES = 5  # of T2, as many as are graded
USUAL_TE_MS = 100.0  # of a T2, to choose among the echoes of one acquisition


@dataclass(frozen=True, slots=True)
class Combination:
    """A T1 and a T2 that may be graded together, and the share of the T2's extent that the T1 covers."""

    t1: Series
    t2: Series
    overlap: float
    middle: tuple[float, ...]  # the share of each of T2's middle slices that the T1 covers

    def covers(self, options: PairOptions) -> bool:
        """Whether the T1 holds what is graded of the T2 (P6)."""
        held = [share > 0 for share in self.middle]
        return sum(held) >= options.overlap_reject * len(held) and min(self.middle) >= options.height_reject


def same_frame(series: Series, t2: Series) -> bool:
    """Whether the headers name one frame of reference, and not two days, because a patient moves in between."""
    dates = {dicom_date(stack.header["StudyDate"]) for stack in (series, t2)} - {None}
    frame = series.frame_of_reference_uid
    return len(dates) < 2 and frame is not None and frame == t2.frame_of_reference_uid


def in_same_geometry(series: Series, t2: Series, options: PairOptions) -> Combination | None:
    """Both if they have the same orientation and the series covers the T2 (P9)."""
    own, wanted = (stack.header["ImageOrientationPatient"] for stack in (series, t2))
    if not nearly(own, wanted, SAME_ORIENTATION):
        return None
    combination = combination_of(series, t2)
    return combination if combination.covers(options) else None


def preference(combination: Combination, wordier: set[int], options: PairOptions) -> tuple:
    """Sorts the best combination first (P8)."""
    both = (combination.t2, combination.t1)
    kinds = [warning.kind for stack in both for warning in stack.warnings]
    disagreeing = kinds.count(WarningKind.DESCRIPTION_DISAGREES)
    made = [reconstruction(stack.header) for stack in both]
    return (
        disagreeing,
        has_contrast_agent(combination.t2.header),
        sum(one.computed for one in made),
        sum(one.reformatted for one in made),
        sum(one.derived for one in made),
        combination.overlap < options.overlap_warn,
        len(kinds) - disagreeing,
        not made[0].like(made[1]),
        sum(id(stack) in wordier for stack in both),
        sum(stack.header["MRAcquisitionType"] == "3D" for stack in both),
        *(round(max(stack.pixel_spacing_mm or (9.0,)) / 0.05) for stack in both),
        *(-stack.n_slices for stack in both),
        *(-one.distortion for one in made),
        *(-one.normalized for one in made),
        *(-_seconds(stack) for stack in both),
        abs((combination.t2.echo_time_ms or USUAL_TE_MS) - USUAL_TE_MS),
        *(part for stack in both for part in (stack.series_uid, stack.stack)),
    )


def _seconds(series: Series) -> float:
    """Time of acquisition in seconds since the first day; 0 if the time of day is unknown."""
    then = moment(series.header)
    day = then.day or then.study_day
    return 0.0 if then.seconds is None else then.seconds + 86_400.0 * (day.toordinal() if day else 0)


def stack_affine(series: Series) -> np.ndarray:
    """(4, 4) float64: (column, row, slice, 1) → LPS mm, of a series that modic.series.identify did not refuse.

    Raises ValueError if the series has no PixelSpacing.
    """
    first, last = (np.array(series.positions_mm[index]) for index in (0, -1))
    spacing = series.pixel_spacing_mm
    if spacing is None:
        raise ValueError("a series without PixelSpacing has no affine")
    return affine_of(first, last, series.n_slices, series.header["ImageOrientationPatient"], spacing)


def overlap_fraction(series: Series, t2: Series) -> float:
    """Share of T2's points (above) that lie within the voxels of `series`, 0-1."""
    return float(_covered(series, t2, np.arange(t2.n_slices)).mean())


def combination_of(t1: Series, t2: Series) -> Combination:
    step = slice_step(t2.slice_spacing_mm or 1.0)
    middle = t2.n_slices // 2 + step * (np.arange(MIDDLE_SLICES) - MIDDLE_SLICES // 2)
    inside = middle[(middle >= 0) & (middle < t2.n_slices)]
    return Combination(t1, t2, overlap_fraction(t1, t2), tuple(_covered(t1, t2, inside).mean(axis=1).tolist()))


def _covered(series: Series, t2: Series, slices: np.ndarray) -> np.ndarray:
    """(slices, points) bool: which points (above) of some slices of T2 lie within the voxels of `series`."""
    rows, columns = t2.header["Rows"], t2.header["Columns"]
    row_runs_up = abs(t2.header["ImageOrientationPatient"][2]) > abs(t2.header["ImageOrientationPatient"][5])
    across, along = (rows, columns) if row_runs_up else (columns, rows)  # front to back, head to foot
    depth = np.linspace(0.25, 0.75, DEPTH_POINTS) * (across - 1)
    height = np.linspace(0.0, 1.0, HEIGHT_POINTS) * (along - 1)
    x, y = (height, depth) if row_runs_up else (depth, height)
    grid = np.stack([axis.ravel() for axis in np.meshgrid(slices, x, y, indexing="ij")], axis=-1)[:, [1, 2, 0]]
    from_t2, from_series = stack_affine(t2), stack_affine(series)
    points = grid @ from_t2[:3, :3].T + from_t2[:3, 3]  # (n, 3) LPS mm
    index = (points - from_series[:3, 3]) @ np.linalg.inv(from_series[:3, :3]).T  # (n, 3) column, row, slice
    size = np.array([series.header["Columns"], series.header["Rows"], series.n_slices])
    return ((index >= -0.501) & (index <= size - 0.499)).all(axis=1).reshape(len(slices), -1)
