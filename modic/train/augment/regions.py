"""Views of a disc for the classifier: a random one for training, a fixed one for measuring, both normalized.

A view is float32 (contrasts, slices, size, size), the contrasts in the order of the disc's.
"""

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
ZOOM = 0.12  # relative error in the size of a detector's box, at most
FEWER_SLICES = 0.5  # probability that a network which pools over slices sees only the middle ones
DISTRACTOR = 0.15  # probability of a painted haemangioma in a healthy real disc
MEASURE = 0.3  # displacement of a view for measuring / that of one for training
BOX_MM = 35.0  # assumed width of a disc's box, to convert mm to px: the cache does not keep the spacing


@dataclass(frozen=True, eq=False)
class Example:
    """A disc as one Modic type: as it is (`painted` 0), or with a lesion of type 1 or 2 painted into it.

    `healed`: its own changes are taken away first (modic/train/augment/healing.py); it is then of type 0, but as
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
        """Whether the disc is a patient's, with nothing painted into it."""
        return self.disc.real and not self.painted and not self.healed


@dataclass(frozen=True, slots=True)
class Stress:
    """What makes views for measuring harder; each view draws its own directions."""

    jitter: float = 0.0  # the box is moved along both axes, and its side scaled, by up to this share of its width
    misregister_mm: float = 0.0  # T1 is shifted against T2 by this much, in the plane
    slices: int = 5  # different slices shown: 1 repeats the middle one, 3 the outer two of the middle three


def training_view(
    example: Example, rng: np.random.Generator, *, size: int, method: Method, repeats: int = 5, intensities: bool = True
) -> np.ndarray:
    """A random view: moved, turned, mirrored, with changed contrast, receive field and noise.

    Args:
        size: side of the view, px.
        method: grey-level normalization.
        repeats: how many times the only slice of a disc is shown. Of several slices sometimes only the middle ones are.
        intensities: whether grey values change; in the paper only place, angle, size and side do.
    """
    images = _painted(example, rng, repeats)
    if repeats == 1 and len(images["t1"]) > 3 and rng.random() < FEWER_SLICES:
        images = {name: slices[1:-1] for name, slices in images.items()}
    if intensities and example.disc.real and example.label == 0 and rng.random() < DISTRACTOR:
        paint_distractor(images, example.disc.geometry, rng)
    view = _moved(images, rng, size, 1.0, one_slice=example.disc.one_slice)
    if rng.random() < 0.5:
        view = view[:, ::-1]  # right and left are alike
    if intensities:
        view = np.stack([_degraded(contrast, rng) for contrast in view])
    return _normalized(view, method)


def measuring_view(
    example: Example, seed: int, *, size: int, method: Method, repeats: int = 5, stress: Stress | None = None
) -> np.ndarray:
    """A fixed view for measuring, the same for the same seed: the box is a little off, as a detector's is.

    `stress` changes the same view further.
    """
    rng, stress = np.random.default_rng(seed), stress or Stress()
    images = _painted(example, rng, repeats)
    zoom, shifts = stressed(example.disc.geometry, stress, seed)
    view = _moved(images, rng, size, MEASURE, one_slice=example.disc.one_slice, zoom_by=zoom, shift_by=shifts)
    return _normalized(view[:, shown(view.shape[1], stress.slices)], method)


def stressed(disc: DiscGeometry, stress: Stress, seed: int) -> tuple[float, np.ndarray]:
    """Zoom of all contrasts, and the shift (2, 2) of T1 and of the others along columns and rows, px.

    The upright box of a disc is `disc.width` / cos(tilt) px wide; it is assumed to be `BOX_MM` wide, so a shift in mm
    is right to about a fifth.
    """
    rng = np.random.default_rng([seed, 7])
    box_px = disc.width / np.cos(disc.tilt)
    zoom = 1 / (1 + stress.jitter * rng.uniform(-1, 1))
    together = stress.jitter * rng.uniform(-1, 1, 2) * box_px
    angle = rng.uniform(0, 2 * np.pi)
    apart = stress.misregister_mm * box_px / BOX_MM * np.array([np.cos(angle), np.sin(angle)])
    return float(zoom), np.stack([together + apart, together])


def shown(depth: int, different: int) -> np.ndarray:
    """Indices (depth,) of the slices shown if only `different` (odd) of them, around the middle one, may be."""
    middle, reach = depth // 2, different // 2
    return np.clip(np.arange(depth), middle - reach, middle + reach)


def _painted(example: Example, rng: np.random.Generator, repeats: int) -> dict[str, np.ndarray]:
    """A copy of the disc's images, an only slice repeated, with the example's lesion; float32 (slices, n, n) each."""
    images = {
        name: slices.repeat(repeats if len(slices) == 1 else 1, axis=0)
        for name, slices in example.disc.contrasts.items()
    }
    if example.healed:
        take_away(images, example.disc.geometry)
    if example.painted:
        paint(images, example.painted, example.disc.geometry, rng)
    return images


def _moved(
    images: dict[str, np.ndarray], rng: np.random.Generator, size: int, amount: float, *, one_slice: bool,
    zoom_by: float = 1.0, shift_by: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Rotate, shift and zoom all contrasts about the centre; float32 (contrasts, slices, size, size).

    Args:
        images: float32 (slices, n, n) of each contrast, T1 first.
        amount: of rotation, shift and zoom; 1 in training.
        one_slice: all slices are one repeated slice. They are then made to differ, more the further from the middle, in
            place, size, angle and shading, as neighbouring slices of a spine do.
        zoom_by, shift_by: of `stressed`, in addition to the drawn ones.
    """
    depth, n, _ = next(iter(images.values())).shape
    spread = np.abs(np.arange(depth) - depth // 2) * rng.uniform(0, 1) * one_slice
    zoom = np.exp(amount * rng.uniform(-ZOOM, ZOOM) + 0.025 * spread * rng.normal(size=depth))
    angle = amount * rng.uniform(-ROTATION_DEG, ROTATION_DEG) + 1.5 * spread * rng.normal(size=depth)
    shift = amount * rng.uniform(-SHIFT, SHIFT, 2) * size + 1.5 * spread[:, None] * rng.normal(size=(depth, 2))
    moved = np.empty((len(images), depth, size, size), np.float32)
    for contrast, slices in enumerate(images.values()):
        apart = rng.normal(0, 0.3, 2)  # px by which the contrasts differ
        apart += 0 if shift_by is None else shift_by[min(contrast, 1)]
        shading = _shading(depth, size, rng) ** np.float32(one_slice)
        for z, image in enumerate(slices):
            matrix = cv2.getRotationMatrix2D(((n - 1) / 2,) * 2, float(angle[z]), zoom_by * float(zoom[z]))
            matrix[:, 2] = matrix[:, 2] + shift[z] + apart - (n - size) / 2
            moved[contrast, z] = shading[z] * cv2.warpAffine(
                image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return moved


def _shading(depth: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth factors around 1 that differ between slices, float32 (depth, size, size)."""
    amplitude = rng.uniform(0, 0.15)
    coarse = rng.normal(0, amplitude, (depth, 3, 3)).astype(np.float32)
    gain = rng.normal(0, amplitude / 2, (depth, 1, 1)).astype(np.float32)
    fine = [cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) for grid in coarse]
    return np.exp(np.stack(fine) + gain)


def _degraded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One contrast (slices, n, n) as another scanner shows it: receive field, blur, tone, Rician noise."""
    n = image.shape[-1]
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j].astype(np.float32)
    a, b = rng.normal(0, 0.1, 2).astype(np.float32)
    high = max(float(np.percentile(image, 98)), 1e-6)
    image = np.maximum(image, 0) / np.float32(high) * np.exp(a * x + b * y)
    if rng.random() < 0.25:
        sigma = rng.uniform(0.3, 1.0)
        image = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in image])
    image = np.maximum(image, 0) ** np.float32(np.exp(rng.normal(0, 0.1)))
    noise = np.float32(abs(rng.normal(0, 0.02))) * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + noise[0], noise[1])


def _normalized(view: np.ndarray, method: Method) -> np.ndarray:
    contrasts = {str(i): np.ascontiguousarray(contrast) for i, contrast in enumerate(view)}
    return np.stack(list(normalize(Region("", contrasts), method=method).contrasts.values()))
