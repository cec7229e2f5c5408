"""Segmented strips of a spine → the edges of the vertebral bodies beside every disc, on all slices at once.

An endplate lies where, going up or down from the disc's axis, the vertebral body begins. What keeps an edge from being
found is listed in modic/imaging/endplates.py.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates, uniform_filter1d

from modic.imaging.spine_strip import COLUMNS, WIDTH_PX, Strip
from modic.imaging.volume import Volume
from modic.models.endplate_net import CLASSES
from modic.quantiles import medians
from modic.records import EndplateTrouble

VERTEBRA, DISC = CLASSES.index("vertebra"), CLASSES.index("disc")
CENTRE = (COLUMNS - 1) / 2
DISC_OF_BOX = 0.78  # a box reaches 5.5 mm beyond its disc in front and behind (modic/phantom/render.py)
STEEP_MM = 2.5  # farther from a parabola, ends of an edge are cut off and dents are clipped (osteophytes, nodes)
SMOOTH = 1.5  # standard deviation of the Gaussian that smooths edges, pixels or points
UP, DOWN = -1, 1
DIRECTIONS = (UP, DOWN)  # to the upper and to the lower endplate of a disc


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

    @property
    def shortest_px(self) -> float:
        """Columns of the shortest endplate."""
        return self.shortest * DISC_OF_BOX * WIDTH_PX


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

    def to_mm(self, rows: np.ndarray, columns: np.ndarray, slices: np.ndarray) -> np.ndarray:
        """LPS mm (…, 3) of places (fractional rows and columns of the strip, …) on canonical T2 slices (…)."""
        x, y = (bilinear(self.strip.points[..., axis], rows, columns) for axis in (0, 1))
        spacing = self.t2.spacing_mm
        index = np.stack([x / spacing[0], y / spacing[1], np.broadcast_to(slices, x.shape)], -1)
        return self.t2.to_mm(index.reshape(-1, 3)).reshape(index.shape)


Edge = tuple[np.ndarray, np.ndarray]  # columns and rows of an endplate, fractional
Place = tuple[int, int]  # a level (index in LEVELS) on a slice (index in `SpineStrips.slices`)


def find_edges(
    spine: SpineStrips, options: EndplateOptions = DEFAULT
) -> dict[Place, tuple[Edge | EndplateTrouble, Edge | EndplateTrouble]]:
    """Upper and lower endplate of every level on every slice, in strip pixels."""
    axes = {
        (level, number): axis for level in spine.levels for number, axis in enumerate(_disc_axes(spine, level, options))
    }
    troubles = {place: (axis, axis) for place, axis in axes.items() if isinstance(axis, EndplateTrouble)}
    known = {place: axis for place, axis in axes.items() if not isinstance(axis, EndplateTrouble)}
    return {**troubles, **dict(zip(known, _pairs(spine, known, options), strict=True))}


def _disc_axes(spine: SpineStrips, level: int, options: EndplateOptions) -> list[np.ndarray | EndplateTrouble]:
    """Of each slice the row (columns,) of the disc's middle at each column: a straight line through its pixels."""
    above, row, below = (spine.strip.row_of(level + shift) for shift in (-0.5, 0.0, 0.5))
    height = below - above
    top, end = max(round(row - 0.45 * height), 0), round(row + 0.45 * height) + 1
    left, right = round(CENTRE - 0.5 * WIDTH_PX), round(CENTRE + 0.5 * WIDTH_PX)
    outside = np.asarray(~spine.inside[:, top:end, left + 4 : right - 4].all((1, 2)))
    disc = spine.probabilities[:, DISC, top:end, left:right] > 0.5
    columns = np.asarray(disc.any(1))
    width = columns.shape[1] - 1 - columns[:, ::-1].argmax(1) - columns.argmax(1)
    missing = (disc.sum((1, 2)) < options.disc_px) | (width < 0.4 * WIDTH_PX)
    slope, middle = _lines_through(disc, np.arange(left, right) - CENTRE, np.arange(top, top + disc.shape[1]))
    beside = np.abs(middle - row) > options.off_box * height
    apart = contrasts_apart_mm(spine, above, below) > options.apart_mm
    axis = middle[:, None] + slope[:, None] * (np.arange(COLUMNS) - CENTRE)
    checks: dict[EndplateTrouble, np.ndarray] = {
        EndplateTrouble.OUTSIDE_IMAGE: outside,
        EndplateTrouble.NO_DISC: missing,
        EndplateTrouble.CONTRADICTS_BOX: beside,
        EndplateTrouble.CONTRASTS_APART: apart,
    }
    return [
        next((trouble for trouble, there in checks.items() if there[number]), axis[number])
        for number in range(len(axis))
    ]


def _lines_through(pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope (n,) and value at 0 of straight lines by least squares through bool (n, rows `y`, columns `x`)."""
    of_column, of_row = pixels.sum(1), pixels.sum(2)
    n = np.maximum(of_column.sum(1), 1)
    mean_x, mean_y = of_column @ x / n, of_row @ y / n
    covariance = (pixels @ x) @ y / n - mean_x * mean_y
    variance = of_column @ x**2 / n - mean_x**2
    slope = covariance / np.maximum(variance, 1e-9)
    return slope, mean_y - slope * mean_x


def contrasts_apart_mm(spine: SpineStrips, top: float, end: float) -> np.ndarray:
    """Of each slice, how far the edges of the bodies between two rows lie apart on T1 and T2.

    That is the area between them over their length.
    """
    if len(spine.bodies) < 2:
        return np.zeros(len(spine.slices))
    half = 0.3 * WIDTH_PX
    there = spine.bodies[:, :, max(int(top), 0) : int(end), round(CENTRE - half) : round(CENTRE + half)]
    return np.asarray((there[0] != there[1]).sum((1, 2)) / (2 * there.shape[3]) * spine.strip.step)


def _pairs(
    spine: SpineStrips, axes: dict[Place, np.ndarray], options: EndplateOptions
) -> list[tuple[Edge | EndplateTrouble, Edge | EndplateTrouble]]:
    """Upper and lower endplate from each disc axis."""
    if not axes:
        return []
    columns, rows, valid = _body_begins(spine, axes, options)
    runs = [longest_run(one) for one in valid]
    long_enough = [index for index, run in enumerate(runs) if len(run) >= options.shortest_px]
    edges: list[Edge | EndplateTrouble] = [EndplateTrouble.NO_VERTEBRA] * len(runs)
    found = [(columns[runs[index]], rows[index, runs[index]]) for index in long_enough]
    for index, edge in zip(long_enough, _smooth(found, spine.strip.step, options), strict=True):
        edges[index] = edge
    pairs = list(zip(edges[::2], edges[1::2], strict=True))
    apart = _apart(pairs) * spine.strip.step
    low, high = options.disc_mm
    both = [not any(isinstance(edge, EndplateTrouble) for edge in pair) for pair in pairs]
    implausible = EndplateTrouble.IMPLAUSIBLE_DISC, EndplateTrouble.IMPLAUSIBLE_DISC
    return [
        implausible if complete and not low <= mm <= high else pair
        for pair, complete, mm in zip(pairs, both, apart, strict=True)
    ]


def _body_begins(
    spine: SpineStrips, axes: dict[Place, np.ndarray], options: EndplateOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where bodies begin, going up and down from each axis: columns (n,), rows (2 * axes, n), and which are valid."""
    body = uniform_filter1d(spine.probabilities[:, VERTEBRA], 3, axis=2)
    columns = np.flatnonzero(np.abs(np.arange(COLUMNS) - CENTRE) < 0.62 * WIDTH_PX)
    heights = {level: spine.strip.row_of(level + 0.5) - spine.strip.row_of(level - 0.5) for level, _ in axes}
    reach = np.repeat([round(1.1 * heights[level] / 2) for level, _ in axes], 2)[:, None]
    numbers = np.repeat([number for _, number in axes], 2)[:, None, None]
    directions = np.tile(DIRECTIONS, len(axes))[:, None]
    steps = np.arange(-2, reach.max() + options.body_px)[:, None]
    start = np.round(np.repeat(list(axes.values()), 2, 0)[:, columns]).astype(int)
    rows = start[:, None] + directions[:, None] * steps  # (edges, steps, columns)
    p = body[numbers, rows.clip(0, body.shape[1] - 1), columns]
    inside = p >= 0.5
    first = (inside & (np.arange(len(steps)) < reach)[:, :, None]).argmax(1)

    def at(values: np.ndarray, step: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, step[:, None], 1)[:, 0]

    before, after = at(p, np.maximum(first - 1, 0)), at(p, first)
    share = (0.5 - before) / np.maximum(after - before, 1e-6)
    goes_on = np.all([at(inside, (first + k).clip(max=len(steps) - 1)) for k in range(options.body_px)], axis=0)
    return columns, at(rows, first) - directions * (1 - share), (first > 0) & goes_on


def longest_run(valid: np.ndarray, gap: int = 3) -> np.ndarray:
    """Indices of the longest run of true values; gaps of up to `gap` within it are left out, but do not end it."""
    where = np.flatnonzero(valid)
    ends = np.flatnonzero(np.diff(where) > gap + 1) + 1
    if not len(ends):
        return where
    return max(np.split(where, ends), key=len)


def _smooth(edges: list[Edge], step: float, options: EndplateOptions) -> list[Edge | EndplateTrouble]:
    """Robust parabolas, and what the edges depart from them, smoothed; steep ends (osteophytes, rims) are cut off."""
    if not edges:
        return []
    lengths = np.array([len(columns) for columns, _ in edges])
    place = np.arange(lengths.max())
    first, last = np.zeros((len(edges), 1), int), lengths[:, None] - 1
    columns, rows = (
        np.stack([one[axis][place.clip(max=len(one[axis]) - 1)] for one in edges]).astype(float) for axis in (0, 1)
    )
    uneven = np.zeros(len(edges), bool)
    for _ in range(2):
        known = (place >= first) & (place <= last)
        fit = _robust_parabolas(columns, rows, known)
        near = known & (np.abs(rows - fit) <= STEEP_MM / step)
        uneven |= near.sum(1) < options.shortest_px
        ends = near.argmax(1), len(place) - 1 - near[:, ::-1].argmax(1)
        first, last = (np.where(uneven, old[:, 0], new)[:, None] for old, new in zip((first, last), ends, strict=True))
    known = (place >= first) & (place <= last)
    rest = rows - fit
    smooth = _blurred(rest.clip(-STEEP_MM / step, STEEP_MM / step), first, last)
    off = np.sqrt((known * (rest - smooth) ** 2).sum(1) / known.sum(1)) * step
    uneven |= off > options.uneven_mm
    return [
        EndplateTrouble.UNEVEN if bad else (x[seen], y[seen])
        for bad, x, y, seen in zip(uneven, columns, fit + smooth, known, strict=True)
    ]


def _robust_parabolas(columns: np.ndarray, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rows (n, places) of parabolas at the columns, by reweighted least squares (L1-like) through what is `known`."""
    n = known.sum(1, keepdims=True)
    mean = (known * columns).sum(1, keepdims=True) / n
    low, high = (np.where(known, columns, none) for none in (np.inf, -np.inf))
    unit = (columns - mean) / np.maximum(high.max(1, keepdims=True) - low.min(1, keepdims=True), 1)
    terms = np.stack([np.ones_like(unit), unit, unit**2], 2)
    weights, fit = known.astype(float), rows
    for _ in range(5):
        weighted = (terms * weights[..., None]).transpose(0, 2, 1)
        fit = (terms @ np.linalg.solve(weighted @ terms, weighted @ rows[..., None]))[..., 0]
        weights = known / (np.abs(rows - fit) + 0.3)
    return fit


def _blurred(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Gaussian along (n, places) between first and last places (n, 1), which serve beyond."""
    radius = int(4 * SMOOTH + 0.5)
    places = np.arange(-radius, values.shape[1] + radius)[None].clip(first, last)
    wide = gaussian_filter1d(np.take_along_axis(values, places, 1), SMOOTH, axis=1, mode="nearest")
    return np.asarray(wide[:, radius:-radius])


def _apart(pairs: list[tuple[Edge | EndplateTrouble, Edge | EndplateTrouble]]) -> np.ndarray:
    """Median distance (n,), pixels, of both edges where both have a column; NaN if there is none."""
    rows = np.full((2, len(pairs), COLUMNS), np.nan)
    for index, pair in enumerate(pairs):
        for side, edge in zip(rows, pair, strict=True):
            if not isinstance(edge, EndplateTrouble):
                side[index, edge[0].astype(int)] = edge[1]
    return medians(rows[1] - rows[0])


def bilinear(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values (rows, columns) at fractional places (…), of the nearest edge beyond."""
    places = np.stack([rows.ravel(), columns.ravel()])
    return np.asarray(map_coordinates(values, places, order=1, mode="nearest").reshape(rows.shape))
