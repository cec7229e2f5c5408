"""What the classifier is shown of a disc: a random view for training, a fixed one for measuring, both normalized."""

from dataclasses import dataclass

import cv2
import numpy as np

from modic.imaging.normalize import Method, normalize
from modic.records import Region
from modic.train.augment.healing import take_away
from modic.train.augment.lesions import paint, paint_distractor
from modic.train.data.disc_geometry import DiscGeometry
from modic.train.data.discs import Disc

ROTATION_DEG = 10.0  # the paper's
SHIFT = 0.10  # of the region's side; the paper's ±10 px of its larger crops
ZOOM = 0.12  # how far a detector's box may be off in size
FEWER_SLICES = 0.5  # how often a network that pools over slices sees only the middle ones
MEASURE = 0.3  # a view for measuring is moved by this share of what one for training is
BOX_MM = 35.0  # width of a disc's box taken for converting mm to px: the slices' own spacing is not in the cache


@dataclass(frozen=True, eq=False)
class Example:
    """A disc as one class: `painted` 0 as it is, 1 or 2 with a lesion of this type painted into it.

    `healed`: its own changes are taken away first (modic/train/augment/healing.py); it is then of type 0 but as
    degenerate as it was.
    """

    disc: Disc
    painted: int = 0
    healed: bool = False

    @property
    def label(self) -> int:
        """Modic type 0, 1, 2."""
        return self.painted or (0 if self.healed else self.disc.label)

    @property
    def source(self) -> str:
        """The disc's source (`spider`, `phantom`, `archive`, …), or `painted` for one with a painted lesion."""
        return "painted" if self.painted or self.healed else self.disc.source

    @property
    def real(self) -> bool:
        """Of a patient and as it is."""
        return self.disc.real and not self.painted and not self.healed


@dataclass(frozen=True, slots=True)
class Stress:
    """How much harder than in the cache a view for measuring is; each view draws its own directions."""

    jitter: float = 0.0  # the box is moved along both axes, and its side scaled, by up to this share of its width
    misregister_mm: float = 0.0  # T1 is shifted against T2 by this much in the plane, in a random direction
    slices: int = 5  # different slices shown: 1 repeats the middle one, 3 the outer two of the middle three


def training_view(
    example: Example, rng: np.random.Generator, *, size: int, method: Method, repeats: int = 5, intensities: bool = True
) -> np.ndarray:
    """Moved, turned, mirrored, with changed contrast, field and noise; float32 (2, slices, size, size).

    Without `intensities` grey values stay what they are, as in the paper: only place, angle, size and side change.

    Where a disc has one slice it is shown `repeats` times; where it has several, sometimes only the middle ones are.
    """
    t1, t2 = _painted(example, rng, repeats)
    if repeats == 1 and len(t1) > 3 and rng.random() < FEWER_SLICES:
        t1, t2 = t1[1:-1], t2[1:-1]
    if intensities and example.disc.real and example.label == 0 and rng.random() < 0.15:
        paint_distractor(t1, t2, example.disc.geometry, rng)
    both = _moved(t1, t2, rng, size, 1.0, one_slice=example.disc.one_slice)
    if rng.random() < 0.5:
        both = both[:, ::-1]  # right and left are alike
    if intensities:
        both = np.stack([_degraded(contrast, rng) for contrast in both])
    return _normalized(both, method)


def measuring_view(
    example: Example, seed: int, *, size: int, method: Method, repeats: int = 5, stress: Stress | None = None
) -> np.ndarray:
    """The same for the same seed: the box a little off, as a detector's is; float32 (2, slices, size, size).

    `stress` comes on top of the same view.
    """
    rng, stress = np.random.default_rng(seed), stress or Stress()
    t1, t2 = _painted(example, rng, repeats)
    zoom, shifts = stressed(example.disc.geometry, stress, seed)
    both = _moved(t1, t2, rng, size, MEASURE, one_slice=example.disc.one_slice, zoom_by=zoom, shift_by=shifts)
    return _normalized(both[:, shown(both.shape[1], stress.slices)], method)


def stressed(disc: DiscGeometry, stress: Stress, seed: int) -> tuple[float, np.ndarray]:
    """Zoom of both contrasts, and the shift (2, 2) in px of T1 and of T2 along columns and rows.

    The upright box of a disc is `disc.width` / cos(tilt) px wide; it is taken for `BOX_MM`, so a shift in mm is right
    to about a fifth.
    """
    rng = np.random.default_rng([seed, 7])
    box_px = disc.width / np.cos(disc.tilt)
    zoom = 1 / (1 + stress.jitter * rng.uniform(-1, 1))
    together = stress.jitter * rng.uniform(-1, 1, 2) * box_px
    angle = rng.uniform(0, 2 * np.pi)
    apart = stress.misregister_mm * box_px / BOX_MM * np.array([np.cos(angle), np.sin(angle)])
    return float(zoom), np.stack([together + apart, together])


def shown(depth: int, different: int) -> np.ndarray:
    """Which slices (depth,) are shown where only `different` (odd) around the middle one are."""
    middle, reach = depth // 2, different // 2
    return np.clip(np.arange(depth), middle - reach, middle + reach)


def _painted(example: Example, rng: np.random.Generator, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    times = repeats if len(example.disc.t1) == 1 else 1
    t1, t2 = example.disc.t1.repeat(times, axis=0), example.disc.t2.repeat(times, axis=0)
    if example.healed:
        take_away(t1, t2, example.disc.geometry)
    if example.painted:
        paint(t1, t2, example.painted, example.disc.geometry, rng)
    return t1, t2


def _moved(
    t1: np.ndarray, t2: np.ndarray, rng: np.random.Generator, size: int, amount: float, *, one_slice: bool,
    zoom_by: float = 1.0, shift_by: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Rotation, shift and zoom of both contrasts about the centre; float32 (2, slices, size, size).

    `zoom_by` and `shift_by` (2, 2), px of T1 and of T2 along columns and rows, come on top of the drawn ones.

    `one_slice`: all slices are one repeated slice; they are made to differ, more the further from the middle, in
    place, size, angle and shading, as neighbouring slices of a spine do.
    """
    n, depth = t1.shape[-1], len(t1)
    spread = np.abs(np.arange(depth) - depth // 2) * rng.uniform(0, 1) * one_slice
    zoom = np.exp(amount * rng.uniform(-ZOOM, ZOOM) + 0.025 * spread * rng.normal(size=depth))
    angle = amount * rng.uniform(-ROTATION_DEG, ROTATION_DEG) + 1.5 * spread * rng.normal(size=depth)
    shift = amount * rng.uniform(-SHIFT, SHIFT, 2) * size + 1.5 * spread[:, None] * rng.normal(size=(depth, 2))
    moved = np.empty((2, depth, size, size), np.float32)
    for contrast, slices in enumerate((t1, t2)):
        apart = rng.normal(0, 0.3, 2)  # px by which the contrasts differ
        apart += 0 if shift_by is None else shift_by[contrast]
        shading = _shading(depth, size, rng) ** np.float32(one_slice)
        for z, one in enumerate(slices):
            matrix = cv2.getRotationMatrix2D(((n - 1) / 2,) * 2, float(angle[z]), zoom_by * float(zoom[z]))
            matrix[:, 2] = matrix[:, 2] + shift[z] + apart - (n - size) / 2
            moved[contrast, z] = shading[z] * cv2.warpAffine(
                one, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return moved


def _shading(depth: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth factors around 1 that differ between slices, float32 (depth, size, size)."""
    amplitude = rng.uniform(0, 0.15)
    coarse = rng.normal(0, amplitude, (depth, 3, 3)).astype(np.float32)
    gain = rng.normal(0, amplitude / 2, (depth, 1, 1)).astype(np.float32)
    fine = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse]
    return np.exp(np.stack(fine) + gain)


def _degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One contrast (slices, n, n): receive field, blur, tone, Rician noise, as scanners differ."""
    n = image.shape[-1]
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    a, b = rng.normal(0, 0.1, 2).astype(np.float32)
    high = max(float(np.percentile(image, 98)), 1e-6)
    image = np.maximum(image, 0) / np.float32(high) * np.exp(a * x + b * y)
    if rng.random() < 0.25:
        sigma = rng.uniform(0.3, 1.0)
        image = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in image])
    image = np.maximum(image, 0) ** np.float32(np.exp(rng.normal(0, 0.1)))
    noise = np.float32(abs(rng.normal(0, 0.02))) * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + noise[0], noise[1])


def _normalized(both: np.ndarray, method: Method) -> np.ndarray:
    contrasts = dict(zip(("t1", "t2"), map(np.ascontiguousarray, both), strict=True))
    return np.stack(list(normalize(Region("", contrasts), method=method).contrasts.values()))
