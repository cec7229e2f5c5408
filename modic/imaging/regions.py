"""Levels → regions: the disc, both endplates and the marrow beside them, cut from every contrast alike.

A region is a square in the plane of the T2 slices, centred on the disc's box and `region_scale` times as wide as it,
on `slices` T2 slices around the box's own: its neighbours or, if slices are thin, every few of them
(`modic.imaging.volume.slice_step`). Its points are defined once, as patient millimetres, and every contrast is sampled
there, so T1 may have another matrix, field of view, slice position or angulation than T2.

| rule | condition                                                            | outcome                            |
|------|----------------------------------------------------------------------|------------------------------------|
| 1    | the box is narrower than `width_reject_mm` or `width_reject_px`      | unreadable, level.too_small        |
| 2    | a corner or the centre of the box lies outside the T1 volume, or the | unreadable, level.outside_t1       |
|      | centre on another of the slices that are cut and that T2 has         |                                    |
| 3    | the same outside the volume of another contrast                      | unreadable, level.outside_contrast |
| 4    | otherwise                                                            | a Region                           |
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from modic.config import LevelOptions
from modic.errors import Reason, Rejected
from modic.imaging.volume import (
    CanonicalVolume,
    Grid,
    Places,
    Volume,
    places_on,
    read_lattice,
    slice_step,
    slices_around,
)
from modic.records import LevelBox, LevelResult, LevelSet, Region

MAX_OVERSAMPLE = 4  # points along each side of a pixel whose mean it is

Box = tuple[float, float, float, float]
Point = tuple[float, float, float]
Volumes = dict[str, CanonicalVolume]
"""The volumes of one study by contrast, in one frame of reference: "t1", "t2" or in its place "stir", and others."""


def reference_of(contrasts: Collection[str]) -> str:
    """The contrast on which discs are found, whose pixels their boxes are in: T2, or the STIR in its place."""
    return "t2" if "t2" in contrasts else "stir"


def reference_volume(volumes: Volumes) -> CanonicalVolume:
    """The volume on which discs are found."""
    return volumes[reference_of(volumes)]


def cut_regions(
    volumes: Volumes, levels: LevelSet, *, preprocessing: dict[str, Any], options: LevelOptions
) -> list[Region | LevelResult]:
    """One Region for each level found, or a LevelResult with status `unreadable`, in the order of `levels.boxes`.

    Args:
        volumes: of the study; a region has the same contrasts in the same order.
        levels: boxes in native pixels of the T2, or of the STIR in its place; so below.
        preprocessing: of the classifier's card: `region_scale` (side / box width), `region_size` (px), `slices`.
        options: how wide a box must be.
    """
    t2 = reference_volume(volumes)
    parts: list[Region | LevelResult] = []
    for disc in levels.boxes:
        box = move_box(t2.native, t2.grid, disc)
        trouble = _trouble(volumes, box, preprocessing["slices"], options)
        if trouble is None:
            contrasts = {name: _sample(volume, t2, box, preprocessing) for name, volume in volumes.items()}
            parts.append(Region(box.level, contrasts))
        else:
            places = (*box_on(volumes["t1"].native, t2.native, disc), *corners_mm(t2, disc))
            parts.append(LevelResult(box.level, "unreadable", trouble, disc, *places))
    return parts


def box_on(target: Grid, source: Grid, disc: LevelBox) -> tuple[Box, int]:
    """A box on another stack of the patient: bounding box of its four corners in the target's pixels, and the nearest
    of the target's slices.

    Args:
        target: grid of the stack; for native T1 pixels, `t1.native`.
        source: grid whose pixels the box is in; of a LevelBox on T2, `t2.native`.
    """
    moved = move_box(source, target, disc)
    return moved.box, int(np.clip(moved.slice_index, 0, target.shape[0] - 1))


def corners_mm(t2: CanonicalVolume, disc: LevelBox) -> tuple[Point, Point]:
    """Patient millimetres (LPS) of the corners (x0, y0) and (x1, y1) of a box in native T2 pixels, on its slice."""
    (a, b, c), *_, (d, e, f) = t2.native.to_mm(_corners(disc)).tolist()
    return (a, b, c), (d, e, f)


def move_box(source: Grid, target: Grid, disc: LevelBox) -> LevelBox:
    """The same box in the pixels of another grid: bounding box of the corners, nearest slice, which may lie outside."""
    corners = target.to_index(source.to_mm(_corners(disc)))
    (x0, y0), (x1, y1) = corners[:, :2].min(0), corners[:, :2].max(0)
    box = (float(x0), float(y0), float(x1), float(y1))
    return LevelBox(disc.level, box, round(float(corners[:, 2].mean())), disc.score)


def region_grid(t2: Volume, disc: LevelBox, preprocessing: dict[str, Any], *, oversample: int = 1) -> np.ndarray:
    """Patient millimetres of a region's points, for a canonical T2 and a box in its (canonical) pixels.

    Returns float64 (slices, n, n, 3) in LPS, n = region_size * oversample; right to left, head to foot, anterior to
    posterior. Slices beyond the stack repeat the outermost one.
    """
    lattice = _lattice(t2, disc, preprocessing, oversample)
    z, y, x = np.meshgrid(*lattice, indexing="ij")  # each (slices, n, n)
    return t2.to_mm(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(*z.shape, 3)


def _lattice(t2: Volume, disc: LevelBox, preprocessing: dict[str, Any], oversample: int) -> Places:
    """Slices, rows and columns of T2 on which a region's points lie."""
    (x0, y0, x1, y1), n = disc.box, preprocessing["region_size"] * oversample
    spacing_x, spacing_y, spacing_z = t2.spacing_mm
    offsets_mm = ((np.arange(n) + 0.5) / n - 0.5) * _side_mm(t2, disc, preprocessing)
    around = slice_step(spacing_z) * (np.arange(preprocessing["slices"]) - preprocessing["slices"] // 2)
    slices = np.clip(disc.slice_index + around, 0, t2.voxels.shape[0] - 1)
    return slices, (y0 + y1) / 2 + offsets_mm / spacing_y, (x0 + x1) / 2 + offsets_mm / spacing_x


def _side_mm(t2: Volume, disc: LevelBox, preprocessing: dict[str, Any]) -> float:
    return float(preprocessing["region_scale"] * (disc.box[2] - disc.box[0]) * t2.spacing_mm[0])


def _sample(volume: Volume, t2: Volume, disc: LevelBox, preprocessing: dict[str, Any]) -> np.ndarray:
    """float32 (slices, size, size), linear; each pixel the mean of enough points that a fine matrix is not aliased."""
    size = preprocessing["region_size"]
    step = _side_mm(t2, disc, preprocessing) / size / min(volume.spacing_mm[:2])
    oversample = int(np.clip(np.ceil(step - 0.25), 1, MAX_OVERSAMPLE))
    if (places := places_on(volume, t2, _lattice(t2, disc, preprocessing, oversample))) is not None:
        return read_lattice(volume.voxels, places, every=oversample).astype(np.float32)
    grid = region_grid(t2, disc, preprocessing, oversample=oversample)
    index = volume.to_index(grid.reshape(-1, 3)).T[::-1]  # (3, points): slice, row, column
    values = map_coordinates(volume.voxels, index, order=1, mode="nearest", output=np.float32)
    return values.reshape(-1, size, oversample, size, oversample).mean((2, 4), dtype=np.float32)


def _trouble(volumes: Volumes, disc: LevelBox, slices: int, options: LevelOptions) -> Rejected | None:
    """The first row of the table that refuses a box in canonical T2 pixels, of which so many slices are cut."""
    reference = reference_of(volumes)
    t2 = volumes[reference]
    width_px, width_mm = box_width(t2.grid, disc)
    if not (width_px >= options.width_reject_px and width_mm >= options.width_reject_mm):
        return Rejected(Reason.LEVEL_TOO_SMALL, f"box {width_px:.1f} px, {width_mm:.1f} mm wide")
    corners = t2.to_mm(_corners(disc))
    points = np.vstack([corners, t2.to_mm(_centres(t2, disc, slices))])
    for name, volume in volumes.items():
        if name != reference and (beyond := _beyond(volume, points)):
            reason = Reason.LEVEL_OUTSIDE_T1 if name == "t1" else Reason.LEVEL_OUTSIDE_CONTRAST
            return Rejected(reason, f"past {contrast_label(name)}'s edge by {beyond}")
    return None


def _centres(t2: Volume, disc: LevelBox, slices: int) -> np.ndarray:
    """(n, 3) of (column, row, slice): the centre of a box on each of the slices that are cut and lie in the stack."""
    (x0, y0, x1, y1), step = disc.box, slice_step(t2.spacing_mm[2])
    indices = disc.slice_index + step * (np.arange(slices) - slices // 2)
    inside = indices[(indices >= 0) & (indices < len(t2.voxels))]
    return np.array([((x0 + x1) / 2, (y0 + y1) / 2, index) for index in inside], float).reshape(-1, 3)


def slices_beyond(t2: CanonicalVolume, levels: LevelSet, slices: int) -> int:
    """How many of the slices that are cut around the discs lie beyond the end of the T2 stack; most of any level."""
    cut = [len(_centres(t2, move_box(t2.native, t2.grid, disc), slices)) for disc in levels.boxes]
    return slices - min(cut, default=slices)


def slices_at(discs: Sequence[LevelBox], wanted: int, n: int, spacing_mm: float) -> list[int]:
    """`slices_around` the middle one of the slices of some boxes."""
    return slices_around(round(float(np.median([disc.slice_index for disc in discs]))), wanted, n, spacing_mm)


def box_width(grid: Grid, disc: LevelBox) -> tuple[float, float]:
    """Pixels and millimetres from the front to the back of a box in pixels of a canonical grid."""
    width = disc.box[2] - disc.box[0]
    return width, width * grid.spacing_mm[0]


def contrast_label(name: str) -> str:
    """The name of a contrast for people: `T1`, `STIR`."""
    return name.upper().replace("_", " ")


def _beyond(volume: Volume, points_mm: np.ndarray) -> str:
    """How far the farthest of the points (n, 3) lies outside a volume, in its pixels; empty if all lie inside."""
    points = volume.to_index(points_mm)
    last = np.array(volume.voxels.shape[::-1]) - 1
    beyond = np.maximum(-points, points - last).max(0)  # pixels past the outermost pixel centre
    if not (beyond > 0.5).any():
        return ""
    return "{:.1f} columns, {:.1f} rows, {:.1f} slices".format(*np.maximum(beyond, 0))


def _corners(disc: LevelBox) -> np.ndarray:
    """(4, 3) of (column, row, slice): (x0, y0), (x1, y0), (x0, y1), (x1, y1)."""
    x0, y0, x1, y1 = disc.box
    z = disc.slice_index
    return np.array([(x0, y0, z), (x1, y0, z), (x0, y1, z), (x1, y1, z)], float)
