"""Volumes and named disc boxes → both endplates of every disc, as lines in patient millimetres, on each slice used.

A strip along the spine (modic/imaging/spine_strip.py) is cut from every slice of T2 and T1 and segmented; the
probabilities of both contrasts are averaged. An endplate lies where, going up or down from the disc's axis, the
vertebral body begins (modic/imaging/endplate_edges.py).
S1 has no mask in SPIDER's T2 SPACE: there the segmenter knows the body of S1 from phantoms alone, and its upper
endplate is where that body begins below the L5/S1 disc.

| trouble          | condition                                                                                    |
|------------------|----------------------------------------------------------------------------------------------|
| outside_image    | a part of the disc's neighbourhood lies outside of T2 or T1                                  |
| no_disc          | under `disc_px` pixels of disc inside the box                                                |
| contradicts_box  | the disc's middle is more than `off_box` of a level's height from the box's                  |
| contrasts_apart  | the bodies on T1 and on T2 end more than `apart_mm` from each other: the patient moved        |
| no_vertebra      | the body begins on fewer columns than `shortest` of the disc's width, or is too thin there   |
| uneven           | its edge leaves a smooth curve by more than `uneven_mm` (root mean square)                   |
| implausible_disc | the endplates are nearer than `disc_mm[0]` or farther than `disc_mm[1]` from each other      |
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates

from modic.imaging.endplate_edges import (
    DEFAULT,
    DIRECTIONS,
    SMOOTH,
    VERTEBRA,
    Edge,
    EndplateOptions,
    Place,
    SpineStrips,
    bilinear,
    find_edges,
)
from modic.imaging.spine_strip import Strip, lay_strip
from modic.imaging.volume import CanonicalVolume, Volume
from modic.models.endplate_net import Segmenter
from modic.records import LEVELS, Endplate, EndplateLine, Endplates, EndplateTrouble, LevelSet

VERTEBRAE = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")  # above and below each of LEVELS
SAME_SLICE = 0.05  # slices: how far points may lie from a slice that is read alone


def find_endplates(
    t2: Volume, t1: Volume | None, levels: LevelSet, *, segmenter: Segmenter, options: EndplateOptions = DEFAULT
) -> dict[str, Endplates]:
    """Both endplates of every level with a box, by its name.

    Args:
        t2, t1: volumes of one frame of reference, axes in any order; without `t1` the T2 decides alone.
        levels: named boxes in native T2 pixels.

    A level whose endplates are not found is there too, with the trouble of each slice.
    """
    if not levels.boxes:
        return {}
    spine = segment_spine(t2, t1, levels, segmenter=segmenter, options=options)
    lines = find_lines(spine, options)
    return {LEVELS[level]: _of_level(spine, level, lines) for level in spine.levels}


def segment_spine(
    t2: Volume, t1: Volume | None, levels: LevelSet, *, segmenter: Segmenter, options: EndplateOptions = DEFAULT
) -> SpineStrips:
    """Vertebral bodies, discs and canal on the slices around the boxes. Arguments as `find_endplates`."""
    canonical = t2.canonical()
    indices, centres, width, middle = _discs(t2, canonical, levels)
    strip = lay_strip(centres, indices, width)
    slices = _slices(middle, canonical, options)
    volumes = [canonical] if t1 is None else [canonical, t1.canonical()]
    values, within = zip(*(read_strip(volume, strip, canonical, slices) for volume in volumes), strict=True)
    seen = np.split(segmenter.probabilities(np.concatenate(values), strip.rhythm), len(volumes))
    inside = np.logical_and.reduce(within)
    bodies = np.stack([one[:, VERTEBRA] >= 0.5 for one in seen])
    return SpineStrips(strip, slices, tuple(indices), canonical, np.mean(seen, axis=0), inside, bodies)


def read_strip(
    volume: Volume, strip: Strip, t2: CanonicalVolume, slices: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Values float32 (slices, rows, columns) of a volume at a strip on slices of T2, linear; and which lie inside.

    0 outside. Beyond the outermost slices, up to half of their distance, the outermost slice serves.
    """
    to_index = np.linalg.inv(volume.affine) @ t2.affine
    plane = np.moveaxis(strip.points / np.array(t2.spacing_mm[:2]), -1, 0)  # (2, rows, columns)
    on_first = np.tensordot(to_index[:3, :2], plane, 1) + to_index[:3, 3, None, None]
    shape = volume.voxels.shape[::-1]
    values, within = [], []
    for slice_ in slices:
        index = on_first + slice_ * to_index[:3, 2, None, None]
        there = [(places >= -0.5) & (places <= n - 0.5) for places, n in zip(index, shape, strict=True)]
        within.append(there[0] & there[1] & there[2])
        values.append(np.where(within[-1], _read_slice(volume.voxels, index), np.float32(0)))
    return np.stack(values), np.stack(within)


def _read_slice(voxels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values at (3, rows, columns) of column, row and slice: quickly, if they lie in one of the volume's slices."""
    import cv2

    slice_ = round(float(index[2, 0, 0]))
    if np.abs(index[2] - slice_).max() < SAME_SLICE and 0 <= slice_ < len(voxels):
        x, y = index[:2].astype(np.float32)
        return cv2.remap(voxels[slice_], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(map_coordinates(voxels, index[::-1], order=1, mode="nearest", output=np.float32))


def _discs(t2: Volume, canonical: CanonicalVolume, levels: LevelSet) -> tuple[list[int], np.ndarray, float, int]:
    """Index in LEVELS, centre (n, 2) and median width in mm of the slice plane, and the slice of most boxes."""
    boxes = sorted(levels.boxes, key=lambda box: LEVELS.index(box.level))
    corners = []
    for box in boxes:
        x0, y0, x1, y1 = box.box
        ends = np.array([(x0, y0, box.slice_index), (x1, y1, box.slice_index)])
        corners.append(canonical.to_index(canonical.native.to_mm(ends)))
    places = np.array(corners)  # (n, 2 corners, 3)
    spacing = np.array(canonical.spacing_mm[:2])
    width = float(np.median(np.abs(places[:, 1, 0] - places[:, 0, 0]))) * spacing[0]
    middle = round(float(np.median(places[:, :, 2])))
    return [LEVELS.index(box.level) for box in boxes], places[:, :, :2].mean(1) * spacing, width, middle


def _slices(middle: int, volume: Volume, options: EndplateOptions) -> tuple[int, ...]:
    step = max(1, round(options.slice_mm / volume.spacing_mm[2]))
    wanted = middle + step * (np.arange(options.slices) - options.slices // 2)
    return tuple(int(i) for i in wanted if 0 <= i < len(volume.voxels))


def _of_level(spine: SpineStrips, level: int, lines: dict[Place, "Lines"]) -> Endplates:
    upper, lower = zip(*(lines[level, number] for number in range(len(spine.slices))), strict=True)
    above, below = Endplate(VERTEBRAE[level], upper), Endplate(VERTEBRAE[level + 1], lower)
    return Endplates(LEVELS[level], above, below, spine.slices)


Line = EndplateLine | EndplateTrouble
Lines = tuple[Line, Line]  # upper and lower endplate


def find_lines(spine: SpineStrips, options: EndplateOptions = DEFAULT) -> dict[Place, Lines]:
    """Upper and lower endplate of every level on every slice."""
    both = find_edges(spine, options)
    edges = [
        (edge, direction, number)
        for (_, number), pair in both.items()
        for edge, direction in zip(pair, DIRECTIONS, strict=True)
    ]
    whole = [(edge, direction, number) for edge, direction, number in edges if not isinstance(edge, EndplateTrouble)]
    found = iter(_lines(whole, spine, options))
    lines = [edge if isinstance(edge, EndplateTrouble) else next(found) for edge, _, _ in edges]
    return dict(zip(both, zip(lines[::2], lines[1::2], strict=True), strict=True))


def _lines(edges: list[tuple[Edge, int, int]], spine: SpineStrips, options: EndplateOptions) -> list[Line]:
    """Edges as points in mm with the directions into their vertebrae, and how far the bodies reach there.

    `edges`: each with its direction and its slice (index in `spine.slices`).
    """
    if not edges:
        return []
    directions, numbers = (np.array([edge[i] for edge in edges]) for i in (1, 2))
    laid = [_even_points(edge, options) for edge, _, _ in edges]
    at = np.stack([points for points, _ in laid])  # (edges, positions, 2): row, column
    slope = np.gradient(gaussian_filter1d(at, SMOOTH, axis=1, mode="nearest"), axis=1)
    normal = directions[:, None, None] * np.stack([slope[..., 1], -slope[..., 0]], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    slices = np.array(spine.slices)[numbers, None]
    points = spine.to_mm(at[..., 0], at[..., 1], slices)
    inward = spine.to_mm(at[..., 0] + 2 * normal[..., 0], at[..., 1] + 2 * normal[..., 1], slices) - points
    inward /= np.linalg.norm(inward, axis=-1, keepdims=True)
    reach = _reach(spine, numbers, at, normal, options)
    thin = (reach >= 5.0).mean(1) < 0.5
    return [
        EndplateTrouble.NO_VERTEBRA
        if thin[i]
        else EndplateLine(points[i], inward[i], reach[i], length * spine.strip.step)
        for i, (_, length) in enumerate(laid)
    ]


def _even_points(edge: Edge, options: EndplateOptions) -> tuple[np.ndarray, float]:
    """Points (positions, 2) of (row, column) at equal distances along an edge without its corners, and its length."""
    columns, rows = edge
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(columns), np.diff(rows)))])
    along = np.linspace(options.corner, 1 - options.corner, options.positions) * length[-1]
    return np.stack([np.interp(along, length, rows), np.interp(along, length, columns)], 1), float(length[-1])


def _reach(
    spine: SpineStrips, numbers: np.ndarray, at: np.ndarray, normal: np.ndarray, options: EndplateOptions
) -> np.ndarray:
    """How far (edges, positions), mm, body and image go on from each point along its normal."""
    step = spine.strip.step
    shifts = np.arange(1.0, options.reach_mm / step)  # pixels
    places = at[:, :, None] + shifts[:, None] * normal[:, :, None]
    ends = np.empty(at.shape[:2])
    for number in np.unique(numbers):
        body = np.where(spine.inside[number], spine.probabilities[number, VERTEBRA], 0)
        here = numbers == number
        within = bilinear(body, places[here, ..., 0], places[here, ..., 1]) >= 0.5
        ends[here] = np.where(within.all(-1), len(shifts), within.argmin(-1))
    return ends * step
