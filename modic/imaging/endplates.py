"""Volumes and named disc boxes → both endplates of every disc, as lines in patient millimetres, on each slice used.

A strip along the spine (modic/imaging/spine_strip.py) is cut from every slice of T2 and T1 and segmented; the
probabilities of both contrasts are averaged. An endplate lies where, going up or down from the disc's axis, the
vertebral body begins.
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

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates, uniform_filter1d

from modic.imaging.spine_strip import COLUMNS, WIDTH_PX, Strip, lay_strip
from modic.imaging.volume import CanonicalVolume, Volume
from modic.models.endplate_net import CLASSES, Segmenter
from modic.records import LEVELS, Endplate, EndplateLine, Endplates, EndplateTrouble, LevelSet

VERTEBRAE = ("T12", "L1", "L2", "L3", "L4", "L5", "S1")  # above and below each of LEVELS
VERTEBRA, DISC = CLASSES.index("vertebra"), CLASSES.index("disc")
CENTRE = (COLUMNS - 1) / 2
DISC_OF_BOX = 0.78  # a box reaches 5.5 mm beyond its disc in front and behind (modic/phantom/render.py)
STEEP_MM = 2.5  # farther from a parabola, ends of an edge are cut off and dents are clipped (osteophytes, nodes)


@dataclass(frozen=True, slots=True)
class EndplateOptions:
    """How endplates are found. Pixels are those of a strip, 0.8 mm in the median patient."""

    slices: int = field(default=5, metadata={"help": "slices around the box's own"})
    slice_mm: float = field(default=4.0, metadata={"help": "between them if slices are thinner, mm; as regions"})
    positions: int = field(default=25, metadata={"help": "points of a line"})
    corner: float = field(
        default=0.08, metadata={"help": "share of an endplate left out at each end: rim, osteophytes"}
    )
    reach_mm: float = field(default=20.0, metadata={"help": "how far into a body, mm; lumbar bodies are 26-30 high"})
    disc_px: int = field(default=50, metadata={"help": "smallest disc, pixels; a narrow disc of 2 mm has 100"})
    off_box: float = field(default=0.22, metadata={"help": "of a level's height, disc to box: 8 mm"})
    apart_mm: float = field(
        default=1.8, metadata={"help": "between the edges of bodies on T1 and T2; pixels are 0.5-1 mm"}
    )
    shortest: float = field(default=0.5, metadata={"help": "shortest endplate, share of the disc's width"})
    body_px: int = field(default=8, metadata={"help": "a body goes on for this many pixels"})
    uneven_mm: float = field(default=1.6, metadata={"help": "root mean square distance from a smooth curve"})
    disc_mm: tuple[float, float] = field(default=(1.0, 19.0), metadata={"help": "lumbar discs: 3-15 mm (Frobin 1997)"})


DEFAULT = EndplateOptions()


@dataclass(frozen=True, eq=False)
class SpineStrips:
    """The segmented strips of a study.

    `probabilities` float32 (slices, classes, rows, columns), the mean of both contrasts; `inside` bool (slices, rows,
    columns): within all volumes; `bodies` bool (contrasts, slices, rows, columns): vertebral bodies of each contrast
    alone; `t2` the canonical volume in whose slices (`slices`) the strip lies; `levels` the index in LEVELS of its
    discs.
    """

    strip: Strip  # in mm of a slice of `t2`: column and row index times their spacing
    slices: tuple[int, ...]
    levels: tuple[int, ...]
    t2: Volume
    probabilities: np.ndarray
    inside: np.ndarray
    bodies: np.ndarray

    def to_mm(self, rows: np.ndarray, columns: np.ndarray, slice_: int) -> np.ndarray:
        """LPS mm (n, 3) of places (fractional rows and columns of the strip) on a canonical T2 slice."""
        plane = np.stack([_bilinear(self.strip.points[..., i], rows, columns) for i in (0, 1)], 1)
        index = plane / np.array(self.t2.spacing_mm[:2])
        return self.t2.to_mm(np.column_stack([index, np.full(len(index), float(slice_))]))


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
    return {LEVELS[level]: _of_level(spine, level, options) for level in spine.levels}


def segment_spine(
    t2: Volume, t1: Volume | None, levels: LevelSet, *, segmenter: Segmenter, options: EndplateOptions = DEFAULT
) -> SpineStrips:
    """Vertebral bodies, discs and canal on the slices around the boxes. Arguments as `find_endplates`."""
    canonical = t2.canonical()
    indices, centres, width, middle = _discs(t2, canonical, levels)
    strip = lay_strip(centres, indices, width)
    slices = _slices(middle, canonical, options)
    points = np.stack([_plane_mm(strip, canonical, index) for index in slices])  # (slices, rows, columns, 3)
    seen, inside = [], np.ones(points.shape[:3], bool)
    for volume in [canonical] if t1 is None else [canonical, t1.canonical()]:
        values, within = sample(volume, points)
        seen.append(segmenter.probabilities(values, strip.rhythm))
        inside &= within
    bodies = np.stack([one[:, VERTEBRA] >= 0.5 for one in seen])
    return SpineStrips(strip, slices, tuple(indices), canonical, np.mean(seen, axis=0), inside, bodies)


def sample(volume: Volume, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values float32 of a volume at LPS points (slices, rows, columns, 3), linear, 0 outside; and which lie inside.

    Beyond the outermost slices, up to half of their distance, the outermost slice serves.
    """
    index = volume.to_index(points_mm.reshape(-1, 3)).reshape(points_mm.shape)
    last = np.array(volume.voxels.shape[::-1]) - 1
    within = ((index >= -0.5) & (index <= last + 0.5)).all(-1)
    values = np.stack([_read_slice(volume.voxels, one) for one in index])
    return np.where(within, values, 0), np.asarray(within)


def _read_slice(voxels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values at (rows, columns, 3) of (column, row, slice): quickly, if they lie in one of the volume's slices."""
    import cv2

    slice_ = round(float(index[0, 0, 2]))
    if np.abs(index[..., 2] - slice_).max() < 0.05 and 0 <= slice_ < len(voxels):
        x, y = (np.ascontiguousarray(index[..., i], dtype=np.float32) for i in (0, 1))
        return cv2.remap(voxels[slice_], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    places = index.reshape(-1, 3).T[::-1]
    return map_coordinates(voxels, places, order=1, mode="nearest", output=np.float32).reshape(index.shape[:2])


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


def _plane_mm(strip: Strip, volume: Volume, slice_: int) -> np.ndarray:
    """LPS mm (rows, columns, 3) of a strip on a slice."""
    index = strip.points.reshape(-1, 2) / np.array(volume.spacing_mm[:2])
    return volume.to_mm(np.column_stack([index, np.full(len(index), float(slice_))])).reshape(
        *strip.points.shape[:2], 3
    )


def _of_level(spine: SpineStrips, level: int, options: EndplateOptions) -> Endplates:
    upper: list[EndplateLine | EndplateTrouble] = []
    lower: list[EndplateLine | EndplateTrouble] = []
    for number in range(len(spine.slices)):
        one, other = _of_slice(spine, level, number, options)
        upper.append(one)
        lower.append(other)
    above, below = Endplate(VERTEBRAE[level], tuple(upper)), Endplate(VERTEBRAE[level + 1], tuple(lower))
    return Endplates(LEVELS[level], above, below, spine.slices)


Line = EndplateLine | EndplateTrouble
Edge = tuple[np.ndarray, np.ndarray]  # columns and rows of an endplate, fractional


def _of_slice(spine: SpineStrips, level: int, number: int, options: EndplateOptions) -> tuple[Line, Line]:
    """Upper and lower endplate of a level on a slice."""
    edges = find_edges(spine, level, number, options)
    lines = [
        edge if isinstance(edge, EndplateTrouble) else _line(edge, direction, spine, number, options)
        for edge, direction in zip(edges, (-1, 1), strict=True)
    ]
    return lines[0], lines[1]


def find_edges(
    spine: SpineStrips, level: int, number: int, options: EndplateOptions = DEFAULT
) -> tuple[Edge | EndplateTrouble, Edge | EndplateTrouble]:
    """Upper and lower endplate of a level (index in LEVELS) on a slice (index in `spine.slices`), in strip pixels."""
    axis = _disc_axis(spine, level, number, options)
    if isinstance(axis, EndplateTrouble):
        return axis, axis
    if contrasts_apart_mm(spine, level, number) > options.apart_mm:
        return EndplateTrouble.CONTRASTS_APART, EndplateTrouble.CONTRASTS_APART
    half = (spine.strip.row_of(level + 0.5) - spine.strip.row_of(level - 0.5)) / 2
    body = uniform_filter1d(spine.probabilities[number, VERTEBRA], 3, axis=1)
    upper, lower = (_edge(body, axis, direction, round(1.1 * half), spine.strip.step, options) for direction in (-1, 1))
    trouble = _implausible(upper, lower, spine.strip.step, options)
    return (trouble, trouble) if trouble else (upper, lower)


def _disc_axis(spine: SpineStrips, level: int, number: int, options: EndplateOptions) -> np.ndarray | EndplateTrouble:
    """The row (columns,) of the disc's middle at each column: a straight line through its pixels."""
    row = spine.strip.row_of(level)
    height = spine.strip.row_of(level + 0.5) - spine.strip.row_of(level - 0.5)
    top, end = max(round(row - 0.45 * height), 0), round(row + 0.45 * height) + 1
    left, right = round(CENTRE - 0.5 * WIDTH_PX), round(CENTRE + 0.5 * WIDTH_PX)
    if not spine.inside[number, top:end, left + 4 : right - 4].all():
        return EndplateTrouble.OUTSIDE_IMAGE
    weights = spine.probabilities[number, DISC, top:end, left:right]
    rows, columns = np.nonzero(weights > 0.5)
    if len(rows) < options.disc_px or np.ptp(columns) < 0.4 * WIDTH_PX:
        return EndplateTrouble.NO_DISC
    slope, middle = np.polyfit(columns + left - CENTRE, rows + top, 1)
    if abs(middle - row) > options.off_box * height:
        return EndplateTrouble.CONTRADICTS_BOX
    return middle + slope * (np.arange(COLUMNS) - CENTRE)


def contrasts_apart_mm(spine: SpineStrips, level: int, number: int) -> float:
    """How far the edges of the bodies beside a disc lie apart on T1 and T2: the area between them over their length."""
    if len(spine.bodies) < 2:
        return 0.0
    top, end = (int(spine.strip.row_of(level + shift)) for shift in (-0.5, 0.5))
    half = 0.3 * WIDTH_PX
    there = spine.bodies[:, number, max(top, 0) : end, round(CENTRE - half) : round(CENTRE + half)]
    return float((there[0] != there[1]).sum() / (2 * there.shape[2]) * spine.strip.step)


def _edge(
    body: np.ndarray, axis: np.ndarray, direction: int, reach: int, step: float, options: EndplateOptions
) -> Edge | EndplateTrouble:
    """Where a body begins, going from the disc's axis up (-1) or down (1), as columns and smooth rows."""
    steps = np.arange(-2, reach + options.body_px)
    rows = np.round(axis).astype(int)[:, None] + direction * steps  # (columns, steps)
    p = body[rows.clip(0, len(body) - 1), np.arange(COLUMNS)[:, None]]
    inside = p >= 0.5
    first = inside[:, :reach].argmax(1)
    columns = np.arange(COLUMNS)
    before, after = p[columns, np.maximum(first - 1, 0)], p[columns, first]
    share = (0.5 - before) / np.maximum(after - before, 1e-6)
    goes_on = np.stack([inside[columns, np.minimum(first + k, p.shape[1] - 1)] for k in range(options.body_px)]).all(0)
    valid = (first > 0) & goes_on & (np.abs(columns - CENTRE) < 0.62 * WIDTH_PX)
    found = rows[columns, first] - direction * (1 - share)
    run = _longest_run(valid)
    if len(run) < options.shortest * DISC_OF_BOX * WIDTH_PX:
        return EndplateTrouble.NO_VERTEBRA
    return _smooth(run, found[run], step, options)


def _longest_run(valid: np.ndarray, gap: int = 3) -> np.ndarray:
    """Indices of the longest run of true values; gaps of up to `gap` within it are left out, but do not end it."""
    where = np.flatnonzero(valid)
    if not len(where):
        return where
    runs = np.split(where, np.flatnonzero(np.diff(where) > gap + 1) + 1)
    return max(runs, key=len)


def _smooth(columns: np.ndarray, rows: np.ndarray, step: float, options: EndplateOptions) -> Edge | EndplateTrouble:
    """A robust parabola, and what the edge departs from it, smoothed; steep ends (osteophytes, rims) are cut off."""
    for _ in range(2):
        fit = _robust_parabola(columns, rows)
        near = np.flatnonzero(np.abs(rows - fit) <= STEEP_MM / step)
        if len(near) < options.shortest * DISC_OF_BOX * WIDTH_PX:
            return EndplateTrouble.UNEVEN
        columns, rows, fit = (values[near[0] : near[-1] + 1] for values in (columns, rows, fit))
    rest = rows - fit
    smooth = gaussian_filter1d(rest.clip(-STEEP_MM / step, STEEP_MM / step), 1.5, mode="nearest")
    if np.sqrt(np.mean((rest - smooth) ** 2)) * step > options.uneven_mm:
        return EndplateTrouble.UNEVEN
    return columns.astype(float), fit + smooth


def _robust_parabola(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of a parabola at the columns, by reweighted least squares (L1-like)."""
    unit = (columns - columns.mean()) / max(np.ptp(columns), 1)
    terms = np.stack([np.ones_like(unit), unit, unit**2], 1)
    weights, fit = np.ones(len(rows)), rows
    for _ in range(5):
        weighted = terms.T * weights
        fit = terms @ np.linalg.solve(weighted @ terms, weighted @ rows)
        weights = 1 / (np.abs(rows - fit) + 0.3)
    return fit


def _implausible(
    upper: Edge | EndplateTrouble, lower: Edge | EndplateTrouble, step: float, options: EndplateOptions
) -> EndplateTrouble | None:
    """Trouble if both endplates of a disc are found, but not as a disc's would lie."""
    if isinstance(upper, EndplateTrouble) or isinstance(lower, EndplateTrouble):
        return None
    shared = np.intersect1d(upper[0], lower[0])
    apart = np.interp(shared, *lower) - np.interp(shared, *upper)
    if len(shared) and options.disc_mm[0] <= float(np.median(apart)) * step <= options.disc_mm[1]:
        return None
    return EndplateTrouble.IMPLAUSIBLE_DISC


def _line(
    edge: Edge, direction: int, spine: SpineStrips, number: int, options: EndplateOptions
) -> EndplateLine | EndplateTrouble:
    """An edge as points in mm with the directions into its vertebra, and how far the body reaches there."""
    columns, rows = edge
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(columns), np.diff(rows)))])
    along = np.linspace(options.corner, 1 - options.corner, options.positions) * length[-1]
    at = np.stack([np.interp(along, length, rows), np.interp(along, length, columns)], 1)  # (n, 2): row, column
    slope = np.gradient(gaussian_filter1d(at, 1.5, axis=0, mode="nearest"), axis=0)
    normal = direction * np.stack([slope[:, 1], -slope[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    slice_ = spine.slices[number]
    points = spine.to_mm(at[:, 0], at[:, 1], slice_)
    beyond = spine.to_mm(at[:, 0] + 2 * normal[:, 0], at[:, 1] + 2 * normal[:, 1], slice_)
    inward = (beyond - points) / np.linalg.norm(beyond - points, axis=1, keepdims=True)
    reach = _reach(spine, number, at, normal, options)
    if (reach >= 5.0).mean() < 0.5:
        return EndplateTrouble.NO_VERTEBRA
    return EndplateLine(points, inward, reach, float(length[-1] * spine.strip.step))


def _reach(spine: SpineStrips, number: int, at: np.ndarray, normal: np.ndarray, options: EndplateOptions) -> np.ndarray:
    """How far (n,), mm, body and image go on from each point along its normal."""
    step = spine.strip.step
    shifts = np.arange(1.0, options.reach_mm / step)  # pixels
    places = at[:, None] + shifts[:, None] * normal[:, None]
    body = np.where(spine.inside[number], spine.probabilities[number, VERTEBRA], 0)
    within = _bilinear(body, places[..., 0].ravel(), places[..., 1].ravel()).reshape(len(at), -1) >= 0.5
    ends = np.where(within.all(1), len(shifts), within.argmin(1))
    return ends * step


def _bilinear(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return map_coordinates(values, np.stack([rows, columns]), order=1, mode="nearest")
