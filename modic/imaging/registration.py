"""Whether T1 and T2 show the same anatomy at the same patient millimetres, judged by the images themselves.

Every pair is asked, whatever its headers say: a patient may slide between two series of one FrameOfReferenceUID, and
anonymizers give two patients one. T1 is moved by every shift of `SHIFTS_MM` along the three axes of T2, and by every
turn of `TURNS_DEG` within the plane with the smaller of them, and compared by normalized mutual information (Studholme
1999), which asks only that a tissue's brightness in one contrast predicts its brightness in the other. Equal
orientations in the headers, for which modic.series.pair asks, say nothing of a patient who lay down anew: 5 degrees are
9 mm at the ends of the lumbar spine.

| headers name   | the images                                                        | outcome                      |
|----------------|-------------------------------------------------------------------|------------------------------|
| no one frame   | agree within `shift_reject_mm`, clearly (`clarity_reject`)        | graded, with a warning       |
| no one frame   | do not                                                            | frames_of_reference_differ   |
| one frame      | have nothing in common (`frame_clarity_reject`, `ALIKE`)          | frames_of_reference_differ   |
| one frame      | agree best after a turn of over `frame_turn_reject_deg`           | frames_of_reference_differ   |
| one frame      | agree best over `frame_shift_reject_mm` apart                     | frames_of_reference_differ   |
| one frame      | agree best over `frame_shift_warn_mm` apart, clearly              | T1 is moved, with a warning  |
| one frame      | the same, or a small turn, and not clearly                        | graded, with a warning       |
| one frame      | otherwise                                                         | graded                       |

Of 45 pairs of two hospitals (one slice each) all agreed within 1.5 mm and with a clarity of 0.15 and more; of T1 and T2
of two patients none had over 0.02.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import product

import numpy as np

from modic.config import RegistrationOptions
from modic.imaging.volume import CanonicalVolume, Grid, Volume

STEP_MM = 1.5
EVERY = 2  # steps between the points that are compared
POINTS_MM = EVERY * STEP_MM
SHIFTS_MM = np.arange(-8, 9) * STEP_MM  # within the plane
TURNS_DEG = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
TURNED_MM = SHIFTS_MM[np.abs(SHIFTS_MM) <= 6.0]
BINS = 16
ALIKE = 0.5  # gain of images that are alike in grey levels, so that a lack of clarity means nothing (test patterns)
MIN_POINTS = 100  # of a slice
LAYERS = (-1, 0, 1)  # shifts by slices of T2
SIDEWAYS_GAIN = 0.05  # share by which a shift by a slice must agree better: neighbouring slices look alike
MOST_SLICES = 5
FAR_MM = 6.0  # from the best shift: there a pair in place must lose `clarity_reject` of its gain


class Placement(Enum):
    """What becomes of a pair of one frame of reference."""

    KEEP = "keep"
    MOVE = "move"  # T1, by the shift that was found
    DOUBT = "doubt"  # a warning
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Registration:
    """How T1 must be moved to agree best with T2."""

    shift_mm: float  # the best shift
    clarity: float  # share of its gain over chance that is lost at every shift `FAR_MM` or more away, 0-1
    turn_deg: float = 0.0  # a turn that agrees better than any shift alone; 0 if none does
    vector_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of that shift, along T2's columns, rows and slices
    gain: float = 0.0  # normalized mutual information there, minus 1

    def agrees(self, options: RegistrationOptions) -> bool:
        """Whether both show the same anatomy in place, beyond doubt."""
        near = self.shift_mm <= options.shift_reject_mm
        return near and self.clarity >= options.clarity_reject and not self.turn_deg

    def in_one_frame(self, options: RegistrationOptions) -> Placement:
        """What to do with a pair whose headers name one frame of reference (the table above)."""
        clear = self.clarity >= options.clarity_reject
        if self.clarity < options.frame_clarity_reject:
            return Placement.KEEP if self.gain >= ALIKE or not self.gain else Placement.REFUSE
        if abs(self.turn_deg) > options.frame_turn_reject_deg or self.shift_mm > options.frame_shift_reject_mm:
            return Placement.REFUSE
        if self.shift_mm <= options.frame_shift_warn_mm:
            return Placement.DOUBT if self.turn_deg else Placement.KEEP
        return Placement.MOVE if clear and not self.turn_deg else Placement.DOUBT

    def __str__(self) -> str:
        turned = f", {self.turn_deg:g} degrees" if self.turn_deg else ""
        return f"registration: {self.shift_mm:.1f} mm{turned}, clarity {self.clarity:.2f}"


def register(t1: CanonicalVolume, t2: CanonicalVolume) -> Registration:
    """Compare two sagittal volumes of one patient, LPS mm. About 0.1 seconds.

    Points lie `POINTS_MM` apart on slices of T2, where T1 shows them. T1 is read once on a lattice of `STEP_MM` along
    the axes of T2, so that each shift is another slice of that array.
    """
    moving = _blurred(t1)
    thresholds = _thresholds(moving)
    reach = (len(SHIFTS_MM) - 1) // 2
    grid = _Points.of(t2).shown_by(lambda points: _lattice(moving, thresholds, t1, points, 0) < BINS)
    if min(grid.levels.shape) < 1 or grid.levels[0].size < MIN_POINTS:
        return Registration(0.0, 0.0)
    apart = t2.spacing_mm[2]
    layers = [_lattice(moving, thresholds, t1, grid, reach, move=layer * apart * grid.axes[:, 2]) for layer in LAYERS]
    gains = np.concatenate([_gains(_joint(grid.levels, lattice)) for lattice in layers])
    shifts = product(LAYERS, SHIFTS_MM, SHIFTS_MM)
    places = np.array([(along, down, layer * apart) for layer, down, along in shifts])
    best = int((gains * np.where(places[:, 2] == 0, 1.0, 1 - SIDEWAYS_GAIN)).argmax())
    far = np.linalg.norm((places - places[best])[:, :2], axis=1) >= FAR_MM
    clarity = 1 - gains[far].max() / gains[best] if gains[best] > 0 else 0.0
    turn, turned = _best_turn(moving, thresholds, t1, grid)
    better = turn if turned > gains[best] else 0.0
    along, down, sideways = places[best]
    vector = (float(along), float(down), float(sideways))
    return Registration(float(np.linalg.norm(vector)), float(clarity), better, vector, float(gains[best]))


def moved(t1: CanonicalVolume, t2: CanonicalVolume, registration: Registration) -> CanonicalVolume:
    """T1 where it agrees best with T2: its patient millimetres become those of T2's frame of reference."""
    axes = t2.affine[:3, :3] / np.linalg.norm(t2.affine[:3, :3], axis=0)
    shift = np.eye(4)
    shift[:3, 3] = -axes @ np.array(registration.vector_mm)
    native = Grid(shift @ t1.native.affine, t1.native.shape)
    return CanonicalVolume(t1.voxels, shift @ t1.affine, t1.warnings, native=native)


@dataclass(frozen=True, eq=False)
class _Points:
    """Points on slices of T2, `POINTS_MM` apart over the middle two thirds of rows and columns, and its grey levels.

    `origin_mm`: (slices, 3) LPS of the first point of each slice; `levels`: int64 (slices, rows, columns), times
    `BINS` + 1; `axes` (3, 3): unit vectors along columns, rows and slices.
    """

    origin_mm: np.ndarray
    axes: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, t2: CanonicalVolume) -> "_Points":
        slices = np.unique((np.linspace(0.2, 0.8, MOST_SLICES) * (len(t2.voxels) - 1)).round().astype(int))
        rows, columns = (_steps(n, s) for n, s in zip(t2.voxels.shape[1:], t2.spacing_mm[1::-1], strict=True))
        blurred = _blurred(t2, slices)
        points = blurred[:, rows.round().astype(int)[:, None], columns.round().astype(int)]
        levels = _grey_levels(points, _thresholds(blurred)).astype(np.int64)
        corners = np.array([(columns[0], rows[0], index) for index in slices])
        axes = t2.affine[:3, :3] / np.linalg.norm(t2.affine[:3, :3], axis=0)
        return cls(t2.to_mm(corners), axes, levels * (BINS + 1))

    def shown_by(self, inside: "Callable[[_Points], np.ndarray]") -> "_Points":
        """The rows and columns of which T1 shows most. `inside`: bool (slices, rows, columns), steps of the lattice."""
        shown = inside(self)[:, ::EVERY, ::EVERY]
        shown = shown[shown.any((1, 2))]  # a slice beyond T1 says nothing of rows and columns
        rows, columns = (
            np.flatnonzero(shown.mean(axes) >= 0.5) if len(shown) else np.arange(0) for axes in ((0, 2), (0, 1))
        )
        if not (len(rows) and len(columns)):
            return _Points(self.origin_mm, self.axes, self.levels[:, :0, :0])
        first = POINTS_MM * (columns[0] * self.axes[:, 0] + rows[0] * self.axes[:, 1])
        part = self.levels[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return _Points(self.origin_mm + first, self.axes, part)


def _steps(n: int, spacing: float) -> np.ndarray:
    """Fractional indices `POINTS_MM` apart over the middle two thirds of an axis."""
    return np.arange(n / 6, n * 5 / 6, POINTS_MM / spacing)[: max(1, int(n * 2 / 3 * spacing / POINTS_MM))]


def _lattice(
    moving: np.ndarray, thresholds: np.ndarray, t1: CanonicalVolume, grid: _Points, reach: int, *,
    move: np.ndarray | float = 0.0, turn: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """uint8 (slices, rows, columns): grey levels of T1 at steps of `STEP_MM`, also `reach` of them past the points.

    BINS outside T1.
    `move` (3,) mm and `turn` (degrees, about T2's slice axis through the middle of the points) are those of T1.
    """
    _, rows, columns = grid.levels.shape
    down = STEP_MM * (np.arange(EVERY * (rows - 1) + 1 + 2 * reach) - reach)
    along = STEP_MM * (np.arange(EVERY * (columns - 1) + 1 + 2 * reach) - reach)
    middle = np.array([(along[0] + along[-1]) / 2, (down[0] + down[-1]) / 2])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    to_index = np.linalg.inv(t1.affine[:3, :3])
    level, upright = to_index @ grid.axes[:, 0], to_index @ grid.axes[:, 1]  # (column, row, slice) of T1 a mm
    across, lower = c * level + s * upright, c * upright - s * level
    start = (to_index @ (grid.origin_mm + move - t1.affine[:3, 3]).T).T  # (slices, 3)
    start = start + middle[0] * (level - across) + middle[1] * (upright - lower)
    x, y, z = (
        np.rint(start[:, None, None, axis] + down[:, None] * lower[axis] + along * across[axis]).astype(np.int32)
        for axis in range(3)
    )
    slices, height, width = moving.shape
    inside = (x >= 0) & (y >= 0) & (z >= 0) & (x < width) & (y < height) & (z < slices)
    places = np.where(inside, (z * height + y) * width + x, 0)
    levels = _grey_levels(moving.take(places), thresholds)
    levels[~inside] = BINS
    return levels


def _grey_levels(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """uint8: how many of the thresholds each value (float32) exceeds; `numpy.searchsorted` takes five times as long."""
    nearest = thresholds.astype(np.float32)
    below = np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    levels = np.zeros(values.shape, np.uint8)
    for threshold in below:
        levels += values > threshold
    return levels


def _best_turn(moving: np.ndarray, thresholds: np.ndarray, t1: CanonicalVolume, grid: _Points) -> tuple[float, float]:
    """The turn that agrees best, with the smaller shifts, and its gain."""
    reach = (len(TURNED_MM) - 1) // 2
    gains = {}
    for turn in TURNS_DEG:
        lattice = _lattice(moving, thresholds, t1, grid, reach, turn=turn)
        gains[turn] = float(_gains(_joint(grid.levels, lattice)).max())
    turn = max(gains, key=gains.__getitem__)
    return turn, gains[turn]


def _joint(levels: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """(shifts, BINS, BINS + 1) counts of the grey levels of T2 and T1 (last: outside), down before along.

    Two neighbouring shifts are counted at once, as one number a point: T2's level, T1's and its neighbour's. Rows come
    before slices here, so that the numbers of a shift down lie in a row.
    """
    slices, rows, columns = levels.shape
    shifts, several = lattice.shape[1] - EVERY * (rows - 1), BINS + 1
    fixed = np.ascontiguousarray(levels.transpose(1, 0, 2)).ravel() * several
    pairs = lattice[:, :, :-1] * np.int64(several) + lattice[:, :, 1:]
    alongs = [*range(0, shifts - 2, 2), shifts - 2]
    numbers, both = np.empty_like(fixed), np.empty((shifts, len(alongs), BINS * several**2), np.float32)
    for pair, along in enumerate(alongs):
        shown = pairs[:, :, along : along + EVERY * (columns - 1) + 1 : EVERY].transpose(1, 0, 2)
        for phase in range(EVERY):
            moving = shown[phase::EVERY].ravel()
            for down in range(phase, shifts, EVERY):
                start = down // EVERY * slices * columns
                np.add(fixed, moving[start : start + len(fixed)], out=numbers)
                both[down, pair] = np.bincount(numbers, minlength=both.shape[2])
    first, second = np.repeat(np.eye(several), several, 0), np.tile(np.eye(several), (several, 1))
    counts = np.empty((shifts, shifts, BINS, several), np.float32)  # whole numbers below 2**24
    for shift, of_one in ((0, first), (1, second)):
        of_shift = both.reshape(-1, several**2) @ of_one.astype(np.float32)
        counts[:, np.array(alongs) + shift] = of_shift.reshape(shifts, len(alongs), BINS, several)
    return counts.reshape(-1, BINS, several)


def _gains(joint: np.ndarray) -> np.ndarray:
    """(n,) normalized mutual information minus 1 of (n, BINS, BINS + 1) counts; 0 if under half of them are inside."""
    inside = joint[:, :, :BINS].astype(float)
    total = inside.sum((1, 2))
    p = inside / np.maximum(total, 1)[:, None, None]
    together, separate = _entropy(p.reshape(len(p), -1)), _entropy(p.sum(1)) + _entropy(p.sum(2))
    enough = (total >= 0.5 * joint.sum((1, 2))) & (together > 0) & (separate > 0)
    return np.where(enough, separate / np.where(together > 0, together, 1) - 1, 0.0)


def _entropy(p: np.ndarray) -> np.ndarray:
    """(n,) of (n, k) probabilities."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1)


def _blurred(volume: Volume, slices: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Some slices, blurred within the slice to the step of the search."""
    import cv2

    x, y, _ = volume.spacing_mm
    return np.stack(
        [
            cv2.GaussianBlur(image, (0, 0), 0.5 * STEP_MM / x, sigmaY=0.5 * STEP_MM / y)
            for image in volume.voxels[slices]
        ]
    )


def _thresholds(blurred: np.ndarray) -> np.ndarray:
    """Grey values that cut the voxels into `BINS` equally large parts."""
    sample = blurred[:, :: max(1, blurred.shape[1] // 64), :: max(1, blurred.shape[2] // 64)]
    return np.quantile(sample, np.linspace(0, 1, BINS + 1)[1:-1])
