"""Voxels with their geometry.

A `Grid` says where in the patient the pixels of a stack lie; a `Volume` is a grid with its voxels. Stages work on a
`CanonicalVolume`: axes in one fixed order, whatever way the images were stored, with the stored grid kept beside them
so that boxes can be given in native pixels.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

SLICE_MM = 4.0  # distance of the slices used together; of a thinner stack (3D) some are skipped, as in 2D protocols


def affine_of(
    first: np.ndarray, last: np.ndarray, slices: int, orientation: Any, spacing: tuple[float, float]
) -> np.ndarray:
    """(4, 4): (column, row, slice, 1) → LPS mm, from the first and last ImagePositionPatient.

    DICOM PS3.3 C.7.6.2.1.1: a column index runs along the row direction with the spacing between columns.

    Args:
        first, last: (3,) LPS mm, ImagePositionPatient of the outermost slices.
        slices: how many, at least 2.
        orientation: six numbers, ImageOrientationPatient.
        spacing: mm between rows, between columns, as DICOM PixelSpacing.
    """
    values = np.asarray(orientation, float)
    affine = np.eye(4)
    affine[:3, 0] = values[:3] / np.linalg.norm(values[:3]) * spacing[1]
    affine[:3, 1] = values[3:] / np.linalg.norm(values[3:]) * spacing[0]
    affine[:3, 2] = (last - first) / (slices - 1)
    affine[:3, 3] = first
    return affine


def slice_step(spacing_mm: float) -> int:
    """Every how many slices of a stack lie about `SLICE_MM` apart; 1 unless they are much thinner."""
    return max(1, round(SLICE_MM / spacing_mm))


def slices_around(midline: int, wanted: int, n: int, spacing_mm: float) -> list[int]:
    """`wanted` slices around one of a stack of `n`, in order; every few if slices are thin (`slice_step`)."""
    indices = midline + slice_step(spacing_mm) * (np.arange(wanted) - wanted // 2)
    return sorted({int(i) for i in indices if 0 <= i < n})


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the pixels of a stack lie in the patient.

    `affine` is float64 (4, 4) and maps (column, row, slice, 1), pixel centres, to LPS mm; `shape` is (slices, rows,
    columns). Raises ValueError for an affine that is not finite or cannot be inverted.
    """

    affine: np.ndarray
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise ValueError("affine must be a finite (4, 4) matrix")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-6:
            raise ValueError("affine is singular")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between columns, rows and slices."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def to_mm(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) of (column, row, slice) → (n, 3) LPS mm."""
        return np.asarray(points, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) LPS mm → (n, 3) of (column, row, slice), fractional."""
        return (np.asarray(points_mm, float) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry, axes in any order and direction.

    `voxels` is float32, shape (slices, rows, columns), after RescaleSlope and RescaleIntercept, MONOCHROME1
    inverted. `affine` is that of `Grid`. Raises ValueError for anything else.
    """

    voxels: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            got = f"{self.voxels.dtype} {self.voxels.shape}"
            raise ValueError(f"voxels must be float32 (slices, rows, columns), not {got}")
        Grid(self.affine, self.voxels.shape)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.affine, self.voxels.shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between columns, rows and slices."""
        return self.grid.spacing_mm

    def to_mm(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) of (column, row, slice) → (n, 3) LPS mm."""
        return self.grid.to_mm(points)

    def to_index(self, points_mm: np.ndarray) -> np.ndarray:
        """(n, 3) LPS mm → (n, 3) of (column, row, slice), fractional."""
        return self.grid.to_index(points_mm)

    def values_at(self, points_mm: np.ndarray) -> np.ndarray:
        """(n,) float64 at LPS points (n, 3), linear; NaN outside, beyond the outer edges of the outermost voxels."""
        index = self.to_index(points_mm)
        outside = (index < -0.5) | (index > np.array(self.voxels.shape[::-1]) - 0.5)
        return np.where(outside.any(1), np.nan, read_points(self.voxels, index))

    def canonical(self) -> "CanonicalVolume":
        """The same voxels on canonical axes; this volume's grid becomes the native one.

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
        upright = np.ascontiguousarray(voxels.transpose(2, 1, 0))
        return CanonicalVolume(upright, affine, self.warnings, native=self.grid)


@dataclass(frozen=True, eq=False)
class CanonicalVolume(Volume):
    """A volume with slices from the patient's right to left, rows head to foot, columns anterior to posterior.

    `native` is the grid of the images as they were stored. Made by `Volume.canonical`.
    """

    native: Grid = field(kw_only=True)

    def canonical(self) -> "CanonicalVolume":
        """Itself."""
        return self

    def as_stored(self) -> "CanonicalVolume":
        """The same volume as if the images had been stored on its axes: native pixels are its own."""
        return replace(self, native=self.grid)


SQUARE = 0.01  # pixels whose sides differ by less, as a share, are square
MOST_STRETCHED = 4.0  # of the longer over the shorter side: beyond it the shorter ones are joined, to bound memory


def square_pixels(volume: CanonicalVolume) -> CanonicalVolume:
    """The same volume with square pixels: as many more along the longer side as it takes, linearly interpolated.

    A volume of square pixels comes back as it is. Patient millimetres and the native grid stay what they were, so a
    box found on the result is given in native pixels as any other.
    """
    import cv2

    sides = np.array(volume.spacing_mm[:2])
    if sides.max() / sides.min() <= 1 + SQUARE:
        return volume
    wanted = max(sides.min(), sides.max() / MOST_STRETCHED)
    old = np.array(volume.voxels.shape[:0:-1])  # columns, rows
    new = np.maximum(1, np.round(old * sides / wanted)).astype(int)
    kind = cv2.INTER_LINEAR if wanted == sides.min() else cv2.INTER_AREA
    size = (int(new[0]), int(new[1]))
    voxels = np.stack([cv2.resize(image, size, interpolation=kind) for image in volume.voxels])
    affine = volume.affine.copy()
    step = old / new  # old pixels in a new one; the outer edges of the image stay where they are
    affine[:3, 3] += affine[:3, :2] @ ((step - 1) / 2)
    affine[:3, :2] *= step
    return CanonicalVolume(voxels, affine, volume.warnings, native=volume.native)


Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Slices, rows and columns (fractional indices, one axis each) of a lattice of points."""
SAME_AXES = 1e-6  # pixels: how far the axes of two volumes may lie apart within a lattice that are called the same


def places_on(volume: Volume, other: Volume, lattice: Places) -> Places | None:
    """A lattice of `other` in indices of `volume`; None if the axes of the two do not lie alike."""
    to_index = np.linalg.inv(volume.affine) @ other.affine
    slices, rows, columns = lattice
    ends = np.array([np.abs(places).max() for places in (columns, rows, slices)])
    apart = np.abs(to_index[:3, :3] - np.diag(np.diag(to_index)[:3])) * ends
    if apart.max() > SAME_AXES:
        return None
    z, y, x = (
        to_index[axis, axis] * places + to_index[axis, 3] for axis, places in zip((2, 1, 0), lattice, strict=True)
    )
    return z, y, x


def read_lattice(voxels: np.ndarray, lattice: Places, *, every: int = 1) -> np.ndarray:
    """Values at each point of a lattice, float64 (slices, rows, columns), linear; the outermost ones serve beyond.

    `every`: so many neighbouring rows, and columns, become one, their mean.
    """
    inside = [places.clip(0, n - 1) for places, n in zip(lattice, voxels.shape, strict=True)]
    first = [int(places.min()) for places in inside]
    part = voxels[tuple(slice(a, int(places.max()) + 2) for a, places in zip(first, inside, strict=True))]
    values = part.astype(np.float64)
    for axis, (start, places) in enumerate(zip(first, inside, strict=True)):
        low = places.astype(int)
        share = np.expand_dims(places - low, tuple(other for other in range(3) if other != axis))
        below = values.take(low - start, axis)
        if share.any():
            above = values.take((low - start + 1).clip(max=values.shape[axis] - 1), axis)
            below += share * (above - below)
        values = below
        if axis and every > 1:
            shape = *values.shape[:axis], -1, every, *values.shape[axis + 1 :]
            values = values.reshape(shape).mean(axis + 1)
    return values


def read_points(voxels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values at points (n, 3) of (column, row, slice), float64, linear; the outermost voxels serve beyond.

    As `scipy.ndimage.map_coordinates` of order 1, in a quarter of its time.
    """
    flat, at = voxels.ravel(), np.zeros(len(index), int)
    shares, strides, stride = [], [], 1
    for places, n in zip(index.T, voxels.shape[::-1], strict=True):
        inside = places.clip(0, n - 1)
        low = np.minimum(inside.astype(int), max(n - 2, 0))
        at += stride * low
        shares.append(inside - low)
        strides.append(stride if n > 1 else 0)
        stride *= n

    def between(at: np.ndarray, axis: int) -> np.ndarray:
        if axis < 0:
            return flat.take(at).astype(float)
        below = between(at, axis - 1)
        return below + shares[axis] * (between(at + strides[axis], axis - 1) - below)

    return between(at, 2)
