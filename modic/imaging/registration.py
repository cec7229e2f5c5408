"""Whether T1 and T2 show the same anatomy at the same patient millimetres, seen from the images themselves.

For pairs whose headers do not vouch for it (no FrameOfReferenceUID, or two different ones). T1 is moved by every shift
of `SHIFTS_MM` along the three axes of T2, and by every turn of `TURNS_DEG` within the plane with the smaller of them,
and compared by normalized mutual information (Studholme 1999), which asks only that a tissue's brightness in one
contrast tells its brightness in the other. Equal orientations in the headers, for which modic.series.pair asks, say
nothing of a patient who lay down anew: 5 degrees are 9 mm at the ends of the lumbar spine.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter

from modic.imaging.volume import Volume

STEP_MM = 1.5
POINTS_MM = 3.0
SHIFTS_MM = np.arange(-8, 9) * STEP_MM  # within the plane
TURNS_DEG = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
TURNED_MM = SHIFTS_MM[np.abs(SHIFTS_MM) <= 6.0]
BINS = 16
MOST_SLICES = 5
AGREE_MM = 3.0  # a disc's endplate region is about 10 mm high
FAR_MM = 6.0
CLEARLY = 0.10  # of the gain over chance at the best shift that must be lost at every shift `FAR_MM` or more away


@dataclass(frozen=True, slots=True)
class Registration:
    """The shift of T1 that agrees best with T2, mm, how much of its gain is lost far from it, 0-1, and the turn."""

    shift_mm: float
    clarity: float
    turn_deg: float = 0.0  # that agrees better than any shift alone; 0 where none does

    @property
    def agrees(self) -> bool:
        """Whether both show the same anatomy in place, beyond doubt."""
        return self.shift_mm <= AGREE_MM and self.clarity >= CLEARLY and not self.turn_deg

    def __str__(self) -> str:
        turned = f", {self.turn_deg:g} degrees" if self.turn_deg else ""
        return f"registration: {self.shift_mm:.1f} mm{turned}, clarity {self.clarity:.2f}"


def register(t1: Volume, t2: Volume) -> Registration:
    """Compare two sagittal volumes, axes in any order. About two seconds."""
    one, two = t1.canonical(), t2.canonical()
    slices = np.unique(np.linspace(0.2, 0.8, MOST_SLICES) * (len(two.voxels) - 1)).round().astype(int)
    rows, columns = (_steps(n, s) for n, s in zip(two.voxels.shape[1:], two.spacing_mm[1::-1], strict=True))
    z, y, x = np.meshgrid(np.unique(slices), rows, columns, indexing="ij")
    index = np.stack([x, y, z], -1).reshape(-1, 3)
    fixed, moving = _levels(two)[z, y, x].ravel(), _levels(one)
    points = two.to_mm(index)
    start = one.to_index(points)
    axes = two.affine[:3, :3] / np.linalg.norm(two.affine[:3, :3], axis=0)
    shifts = np.array(list(product(SHIFTS_MM, SHIFTS_MM, two.spacing_mm[2] * np.arange(-1.0, 2))))
    moves = shifts @ axes.T @ np.linalg.inv(one.affine[:3, :3]).T  # (n, 3), in indices of T1
    gains = np.array([_gain(fixed, moving, start + move) for move in moves])
    best = int(gains.argmax())
    far = np.linalg.norm((shifts - shifts[best])[:, :2], axis=1) >= FAR_MM
    clarity = 1 - gains[far].max() / gains[best] if gains[best] > 0 else 0.0
    turns = {turn: one.to_index(_turned(points, axes[:, 2], turn)) for turn in TURNS_DEG}
    near = np.array(list(product(TURNED_MM, TURNED_MM, [0.0]))) @ axes.T @ np.linalg.inv(one.affine[:3, :3]).T
    turned = {turn: max(_gain(fixed, moving, begin + move) for move in near) for turn, begin in turns.items()}
    turn = max(turned, key=turned.__getitem__)
    better = turn if turned[turn] > gains[best] else 0.0
    return Registration(float(np.linalg.norm(shifts[best])), float(clarity), better)


def _turned(points: np.ndarray, axis: np.ndarray, degrees: float) -> np.ndarray:
    """(n, 3) mm turned about an axis (3,) through their centre (Rodrigues' formula)."""
    centre, angle = points.mean(axis=0), np.radians(degrees)
    arms, unit = points - centre, axis / np.linalg.norm(axis)
    along = np.outer(arms @ unit, unit) * (1 - np.cos(angle))
    return centre + arms * np.cos(angle) + np.cross(unit, arms) * np.sin(angle) + along


def _steps(n: int, spacing: float) -> np.ndarray:
    """Whole indices about `POINTS_MM` apart over the middle two thirds of an axis."""
    return np.unique(np.arange(n / 6, n * 5 / 6, max(POINTS_MM / spacing, 1.0)).astype(int))


def _levels(volume: Volume) -> np.ndarray:
    """Grey values, blurred within the slice to the step of the search, as `BINS` levels held by equally many voxels."""
    smooth = gaussian_filter(volume.voxels, [0.0, *(0.5 * STEP_MM / one for one in volume.spacing_mm[1::-1])])
    sample = smooth[:, :: max(1, smooth.shape[1] // 64), :: max(1, smooth.shape[2] // 64)]
    return np.searchsorted(np.quantile(sample, np.linspace(0, 1, BINS + 1)[1:-1]), smooth).astype(np.uint8)


def _gain(fixed: np.ndarray, moving: np.ndarray, index: np.ndarray) -> float:
    """Normalized mutual information minus 1, over the points that lie within `moving`; 0 where those are under half."""
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
