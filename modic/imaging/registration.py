"""Whether T1 and T2 show the same anatomy at the same patient millimetres, judged by the images themselves.

For pairs whose headers do not vouch for it (no FrameOfReferenceUID, or two different ones). T1 is moved by every shift
of `SHIFTS_MM` along the three axes of T2, and by every turn of `TURNS_DEG` within the plane with the smaller of them,
and compared by normalized mutual information (Studholme 1999), which asks only that a tissue's brightness in one
contrast predicts its brightness in the other. Equal orientations in the headers, for which modic.series.pair asks, say
nothing of a patient who lay down anew: 5 degrees are 9 mm at the ends of the lumbar spine.

Every pair that agrees is graded with a warning that gives the measured values, so `RegistrationOptions` has no other
warn threshold.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter

from modic.config import RegistrationOptions
from modic.imaging.volume import CanonicalVolume, Volume

STEP_MM = 1.5
POINTS_MM = 3.0  # between the points that are compared
SHIFTS_MM = np.arange(-8, 9) * STEP_MM  # within the plane
TURNS_DEG = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
TURNED_MM = SHIFTS_MM[np.abs(SHIFTS_MM) <= 6.0]
BINS = 16
MOST_SLICES = 5
FAR_MM = 6.0  # from the best shift: there a pair in place must lose `clarity_reject` of its gain


@dataclass(frozen=True, slots=True)
class Registration:
    """How T1 must be moved to agree best with T2."""

    shift_mm: float  # the best shift
    clarity: float  # share of its gain over chance that is lost at every shift `FAR_MM` or more away, 0-1
    turn_deg: float = 0.0  # a turn that agrees better than any shift alone; 0 if none does

    def agrees(self, options: RegistrationOptions) -> bool:
        """Whether both show the same anatomy in place, beyond doubt."""
        near = self.shift_mm <= options.shift_reject_mm
        return near and self.clarity >= options.clarity_reject and not self.turn_deg

    def __str__(self) -> str:
        turned = f", {self.turn_deg:g} degrees" if self.turn_deg else ""
        return f"registration: {self.shift_mm:.1f} mm{turned}, clarity {self.clarity:.2f}"


def register(t1: CanonicalVolume, t2: CanonicalVolume) -> Registration:
    """Compare two sagittal volumes of one patient, LPS mm. About two seconds."""
    points, fixed = _points(t2)
    moving, start = _grey_levels(t1), t1.to_index(points)
    axes = t2.affine[:3, :3] / np.linalg.norm(t2.affine[:3, :3], axis=0)
    mm_to_t1 = np.linalg.inv(t1.affine[:3, :3]).T
    shifts = np.array(list(product(SHIFTS_MM, SHIFTS_MM, t2.spacing_mm[2] * np.arange(-1.0, 2))))
    gains = np.array([_gain(fixed, moving, start + move) for move in shifts @ axes.T @ mm_to_t1])
    best = int(gains.argmax())
    far = np.linalg.norm((shifts - shifts[best])[:, :2], axis=1) >= FAR_MM
    clarity = 1 - gains[far].max() / gains[best] if gains[best] > 0 else 0.0
    turned = {turn: t1.to_index(_turned(points, axes[:, 2], turn)) for turn in TURNS_DEG}
    near = np.array(list(product(TURNED_MM, TURNED_MM, [0.0]))) @ axes.T @ mm_to_t1
    turned_gains = {turn: max(_gain(fixed, moving, at + move) for move in near) for turn, at in turned.items()}
    turn = max(turned_gains, key=turned_gains.__getitem__)
    better = turn if turned_gains[turn] > gains[best] else 0.0
    return Registration(float(np.linalg.norm(shifts[best])), float(clarity), better)


def _points(t2: CanonicalVolume) -> tuple[np.ndarray, np.ndarray]:
    """The points that are compared, (n, 3) LPS mm, and the grey level of T2 at each, (n,) uint8."""
    slices = np.unique(np.linspace(0.2, 0.8, MOST_SLICES) * (len(t2.voxels) - 1)).round().astype(int)
    rows, columns = (_steps(n, s) for n, s in zip(t2.voxels.shape[1:], t2.spacing_mm[1::-1], strict=True))
    z, y, x = np.meshgrid(np.unique(slices), rows, columns, indexing="ij")
    return t2.to_mm(np.stack([x, y, z], -1).reshape(-1, 3)), _grey_levels(t2)[z, y, x].ravel()


def _turned(points: np.ndarray, axis: np.ndarray, degrees: float) -> np.ndarray:
    """(n, 3) mm turned about an axis (3,) through their centre (Rodrigues' formula)."""
    centre, angle = points.mean(axis=0), np.radians(degrees)
    arms, unit = points - centre, axis / np.linalg.norm(axis)
    along = np.outer(arms @ unit, unit) * (1 - np.cos(angle))
    return centre + arms * np.cos(angle) + np.cross(unit, arms) * np.sin(angle) + along


def _steps(n: int, spacing: float) -> np.ndarray:
    """Whole indices about `POINTS_MM` apart over the middle two thirds of an axis."""
    return np.unique(np.arange(n / 6, n * 5 / 6, max(POINTS_MM / spacing, 1.0)).astype(int))


def _grey_levels(volume: Volume) -> np.ndarray:
    """Grey values, blurred within the slice to the step of the search, as `BINS` levels held by equally many voxels."""
    smooth = gaussian_filter(volume.voxels, [0.0, *(0.5 * STEP_MM / spacing for spacing in volume.spacing_mm[1::-1])])
    sample = smooth[:, :: max(1, smooth.shape[1] // 64), :: max(1, smooth.shape[2] // 64)]
    return np.searchsorted(np.quantile(sample, np.linspace(0, 1, BINS + 1)[1:-1]), smooth).astype(np.uint8)


def _gain(fixed: np.ndarray, moving: np.ndarray, index: np.ndarray) -> float:
    """Normalized mutual information minus 1, over the points that lie within `moving`; 0 if fewer than half do.

    Args:
        fixed: (n,) grey levels of T2 at the points.
        moving: (slices, rows, columns) grey levels of T1.
        index: (n, 3) of (column, row, slice) of the points in T1, fractional.
    """
    x, y, z = np.rint(index).astype(np.int32).T
    slices, rows, columns = moving.shape
    inside = (x >= 0) & (y >= 0) & (z >= 0) & (x < columns) & (y < rows) & (z < slices)
    if inside.mean() < 0.5:
        return 0.0
    levels = moving[z[inside], y[inside], x[inside]]
    joint = np.bincount(fixed[inside] * np.int64(BINS) + levels, minlength=BINS * BINS).reshape(BINS, BINS)
    joint = joint / joint.sum()
    separate = _entropy(joint.sum(0)) + _entropy(joint.sum(1))
    return separate / _entropy(joint.ravel()) - 1 if separate > 0 else 0.0


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
