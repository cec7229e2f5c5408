"""Voxels with their geometry."""

from dataclasses import dataclass
from typing import Any

import numpy as np


def affine_of(
    first: np.ndarray, last: np.ndarray, slices: int, orientation: Any, spacing: tuple[float, float]
) -> np.ndarray:
    """(4, 4): (column, row, slice, 1) → LPS mm, from the first and last ImagePositionPatient.

    DICOM PS3.3 C.7.6.2.1.1: a column index runs along the row direction with the spacing between columns.
    """
    values = np.asarray(orientation, float)
    affine = np.eye(4)
    affine[:3, 0] = values[:3] / np.linalg.norm(values[:3]) * spacing[1]
    affine[:3, 1] = values[3:] / np.linalg.norm(values[3:]) * spacing[0]
    affine[:3, 2] = (last - first) / (slices - 1)
    affine[:3, 3] = first
    return affine


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry.

    `voxels` is float32, shape (slices, rows, columns), after RescaleSlope and RescaleIntercept, MONOCHROME1
    inverted. `affine` is float64 (4, 4) and maps (column, row, slice, 1), pixel centres, to LPS mm.
    """

    voxels: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            got = f"{self.voxels.dtype} {self.voxels.shape}"
            raise ValueError(f"voxels must be float32 (slices, rows, columns), not {got}")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError("affine must be a finite (4, 4) matrix")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-6:
            raise ValueError("affine is singular")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (column index, row index, slice index), mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def to_mm(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) of (column, row, slice) → (n, 3) LPS mm."""
        return np.asarray(points, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def canonical(self) -> "Volume":
        """The same voxels with slices right to left, rows head to foot, columns anterior to posterior.

        Axes are only swapped and flipped, nothing is resampled; patient millimetres stay what they were.
        """
        voxels = self.voxels.transpose(2, 1, 0)  # axes as the affine counts them: (column, row, slice)
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        z = int(np.argmax(np.abs(directions[0])))  # the axis along left-right becomes the slices
        rest = [axis for axis in range(3) if axis != z]
        y = max(rest, key=lambda axis: abs(directions[2, axis]))
        order = [3 - y - z, y, z]
        affine = self.affine[:, [*order, 3]].copy()
        voxels = voxels.transpose(order)
        for axis, (row, sign) in enumerate(((1, 1), (2, -1), (0, 1))):
            if affine[row, axis] * sign < 0:
                affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
                affine[:3, axis] *= -1
                voxels = np.flip(voxels, axis)
        return Volume(np.ascontiguousarray(voxels.transpose(2, 1, 0)), affine, self.warnings)

    def to_index(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) LPS mm → (n, 3) of (column, row, slice), fractional."""
        return (np.asarray(points_mm, float) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
