"""Levels → regions: the disc, both endplates and the marrow beside them, cut from T1 and T2 alike.

A region is a square in the plane of the T2 slices, centred on the disc's box and `region_scale` times as wide as it,
on `slices` T2 slices around the box's own: its neighbours or, where slices are thin, every few of them (`SLICE_MM`).
Its points are defined once, as patient millimetres, and both contrasts are sampled there, so T1 may have another
matrix, field of view, slice position or angulation than T2.

| rule | condition                                                        | outcome                          |
|------|------------------------------------------------------------------|----------------------------------|
| 1    | the box is narrower than `MIN_WIDTH_MM` or `MIN_WIDTH_PX`        | unreadable, level.too_small      |
| 2    | a corner or the centre of the box lies outside the T1 volume     | unreadable, level.outside_t1     |
| 3    | otherwise                                                        | a Region                         |
"""

from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from modic.errors import Reason, Rejected
from modic.imaging.volume import Volume
from modic.records import LevelBox, LevelResult, LevelSet, Region

MIN_WIDTH_MM = 12.0  # adult lumbar discs are 30-45 mm from front to back
MIN_WIDTH_PX = 8.0
MAX_OVERSAMPLE = 4
SLICE_MM = 4.0  # between the slices of a region where T2 has thinner ones: the 4-5 mm of ordinary protocols

Box = tuple[float, float, float, float]
Point = tuple[float, float, float]


def cut_regions(
    t1: Volume, t2: Volume, levels: LevelSet, *, preprocessing: dict[str, Any]
) -> list[Region | LevelResult]:
    """One Region a found level, or a LevelResult with status `unreadable`, in the order of `levels.boxes`.

    Args:
        t1, t2: volumes of one frame of reference, axes in any order and direction.
        levels: boxes in native T2 pixels.
        preprocessing: of the classifier's card: `region_scale` (side / box width), `region_size` (px), `slices`.
    """
    canonical1, canonical2 = t1.canonical(), t2.canonical()
    parts: list[Region | LevelResult] = []
    for found in levels.boxes:
        box = _between(t2, canonical2, found)
        trouble = _trouble(canonical1, canonical2, box)
        if trouble is None:
            parts.append(
                Region(box.level, *(_sample(v, canonical2, box, preprocessing) for v in (canonical1, canonical2)))
            )
        else:
            where = (*box_on_t1(t1, t2, found), *corners_mm(t2, found))
            parts.append(LevelResult(box.level, "unreadable", trouble, found, *where))
    return parts


def box_on_t1(t1: Volume, t2: Volume, found: LevelBox) -> tuple[Box, int]:
    """The T2 box on T1: bounding box of its four corners in native T1 pixels, and the nearest T1 slice (clipped)."""
    box = _between(t2, t1, found)
    return box.box, int(np.clip(box.slice_index, 0, t1.voxels.shape[0] - 1))


def corners_mm(t2: Volume, found: LevelBox) -> tuple[Point, Point]:
    """Patient millimetres (LPS) of the box's corners (x0, y0) and (x1, y1) on its slice."""
    (a, b, c), *_, (d, e, f) = t2.to_mm(_corners(found)).tolist()
    return (a, b, c), (d, e, f)


def region_grid(t2: Volume, found: LevelBox, preprocessing: dict[str, Any], *, oversample: int = 1) -> np.ndarray:
    """Patient millimetres of a region's points, for a canonical T2 and a box in its pixels.

    Returns float64 (slices, n, n, 3) in LPS, n = region_size * oversample; right to left, head to foot, anterior to
    posterior. Slices beyond the stack repeat the outermost one.
    """
    (x0, y0, x1, y1), n = found.box, preprocessing["region_size"] * oversample
    spacing_x, spacing_y, spacing_z = t2.spacing_mm
    offsets_mm = ((np.arange(n) + 0.5) / n - 0.5) * _side_mm(t2, found, preprocessing)
    step = max(1, round(SLICE_MM / spacing_z))
    around = step * (np.arange(preprocessing["slices"]) - preprocessing["slices"] // 2)
    slices = np.clip(found.slice_index + around, 0, t2.voxels.shape[0] - 1)
    rows, columns = (y0 + y1) / 2 + offsets_mm / spacing_y, (x0 + x1) / 2 + offsets_mm / spacing_x
    z, y, x = np.meshgrid(slices, rows, columns, indexing="ij")  # each (slices, n, n)
    return t2.to_mm(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(*z.shape, 3)


def _side_mm(t2: Volume, found: LevelBox, preprocessing: dict[str, Any]) -> float:
    return float(preprocessing["region_scale"] * (found.box[2] - found.box[0]) * t2.spacing_mm[0])


def _sample(volume: Volume, t2: Volume, found: LevelBox, preprocessing: dict[str, Any]) -> np.ndarray:
    """float32 (slices, size, size), linear; each pixel the mean of enough points that a fine matrix is not aliased."""
    size = preprocessing["region_size"]
    step = _side_mm(t2, found, preprocessing) / size / min(volume.spacing_mm[:2])
    oversample = int(np.clip(np.ceil(step - 0.25), 1, MAX_OVERSAMPLE))
    grid = region_grid(t2, found, preprocessing, oversample=oversample)
    index = volume.to_index(grid.reshape(-1, 3)).T[::-1]  # (3, points): slice, row, column
    values = map_coordinates(volume.voxels, index, order=1, mode="nearest", output=np.float32)
    return values.reshape(-1, size, oversample, size, oversample).mean((2, 4), dtype=np.float32)


def _trouble(t1: Volume, t2: Volume, found: LevelBox) -> Rejected | None:
    width = found.box[2] - found.box[0]
    if not (width >= MIN_WIDTH_PX and width * t2.spacing_mm[0] >= MIN_WIDTH_MM):
        return Rejected(Reason.LEVEL_TOO_SMALL, f"box {width:.1f} px, {width * t2.spacing_mm[0]:.1f} mm wide")
    corners = t2.to_mm(_corners(found))
    points = t1.to_index(np.vstack([corners, corners.mean(0)]))
    last = np.array(t1.voxels.shape[::-1]) - 1
    beyond = np.maximum(-points, points - last).max(0)  # pixels past the outermost pixel centre
    if (beyond > 0.5).any():
        return Rejected(
            Reason.LEVEL_OUTSIDE_T1,
            "past T1's edge by {:.1f} columns, {:.1f} rows, {:.1f} slices".format(*np.maximum(beyond, 0)),
        )
    return None


def _corners(found: LevelBox) -> np.ndarray:
    """(4, 3) of (column, row, slice): (x0, y0), (x1, y0), (x0, y1), (x1, y1)."""
    x0, y0, x1, y1 = found.box
    z = found.slice_index
    return np.array([(x0, y0, z), (x1, y0, z), (x0, y1, z), (x1, y1, z)], float)


def _between(source: Volume, target: Volume, found: LevelBox) -> LevelBox:
    """The same box in the pixels of another volume: bounding box of the corners, nearest slice (not clipped)."""
    corners = target.to_index(source.to_mm(_corners(found)))
    (x0, y0), (x1, y1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(x0), float(y0), float(x1), float(y1))
    return LevelBox(found.level, box, round(float(corners[:, 2].mean())), found.score)
