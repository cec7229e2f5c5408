"""Modic-like lesions painted into real regions, for the types that labelled real data lack.

SPIDER has four discs of Modic type 1, so type 1 is taught with lesions of known physics on real endplates of discs
graded 0: oedema is dark on T1 and bright on T2, fat bright on T1 and somewhat bright on T2 (Modic 1988). They teach
the contrast and the place, not the whole look of a real lesion; no number measured on them is one about patients.
"""

import cv2
import numpy as np

from modic.train.data.disc_geometry import DiscGeometry

Images = dict[str, np.ndarray]
"""The region in each contrast: float32 (slices, n, n)."""
Change = tuple[float, float]
"""Bounds of the relative change of brightness."""

LESIONS: dict[int, dict[str, Change]] = {
    1: {"t1": (-0.3, -0.65), "t2": (0.35, 1.3)},
    2: {"t1": (0.2, 0.7), "t2": (0.08, 0.5)},
}
"""How each Modic type changes the marrow in each contrast."""
HAEMANGIOMA: dict[str, Change] = {"t1": (0.2, 0.6), "t2": (0.3, 1.0)}


def paint(images: Images, mc: int, disc: DiscGeometry, rng: np.random.Generator) -> None:
    """Paint Modic type `mc` (1 or 2) beside one or both endplates, in place.

    Raises KeyError for a contrast in which the brightness of lesions is not known (`LESIONS`).
    """
    shape = images["t1"].shape
    u, v = disc_frame(shape[-1], disc)
    sides = ((-1,), (1,), (-1, 1))[rng.choice(3, p=(0.25, 0.25, 0.5))]
    mask = np.zeros(shape, np.float32)
    for side in sides:
        mask = np.maximum(mask, _blob(shape, u, side * v - disc.thickness / 2, rng))
    mask *= marrow_mask(images["t1"], u, v, disc)
    _brighten(images, mask, LESIONS[mc], rng)


def paint_distractor(images: Images, disc: DiscGeometry, rng: np.random.Generator) -> None:
    """Paint a round spot like a haemangioma inside a vertebral body, away from the endplates, in place."""
    shape = images["t1"].shape
    u, v = disc_frame(shape[-1], disc)
    u0, v0, radius = rng.uniform(-0.3, 0.3), rng.choice((-1, 1)) * rng.uniform(0.42, 0.6), rng.uniform(0.06, 0.13)
    z = np.arange(shape[0])[:, None, None] - rng.integers(shape[0])
    r = np.sqrt(((u - u0) / radius) ** 2 + ((v - v0) / radius) ** 2 + (z / 1.5) ** 2)
    mask = _sigmoid((1 - r) / 0.2) * marrow_mask(images["t1"], u, v, disc)
    _brighten(images, mask, HAEMANGIOMA, rng)


def disc_frame(n: int, disc: DiscGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Along (front to back) and across (head to foot) the disc, in disc widths, float32 (n, n)."""
    y, x = (np.mgrid[:n, :n].astype(np.float32) - (n - 1) / 2) / np.float32(disc.width)
    c, s = np.float32(np.cos(disc.tilt)), np.float32(np.sin(disc.tilt))
    return x * c - y * s, x * s + y * c


def _blob(shape: tuple[int, ...], u: np.ndarray, d: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half an ellipsoid on the endplate (d = 0, marrow at d > 0) with an uneven, soft edge; float32 (slices, n, n)."""
    slices, n, _ = shape
    half, depth = rng.uniform(0.12, 0.55), rng.uniform(0.08, 0.38)
    centre = rng.uniform(-0.42, 0.42) if half < 0.4 else rng.uniform(-0.1, 0.1)
    through = rng.random() < 0.5  # on every slice alike: that slices differ must not mean that there is a lesion
    z = (np.arange(slices) - rng.integers(slices)) / (50.0 if through else rng.uniform(1.5, 6))
    uneven = cv2.resize(rng.normal(0, 0.22, (6, 6)).astype(np.float32), (n, n), interpolation=cv2.INTER_CUBIC)
    r = np.sqrt(((u - centre) / half) ** 2 + (np.maximum(d, 0) / depth) ** 2 + z[:, None, None] ** 2)
    soft = rng.uniform(0.08, 0.25)
    return _sigmoid((1 - r - uneven) / soft) * _sigmoid((d + 0.05) / 0.02)


def marrow_mask(t1: np.ndarray, u: np.ndarray, v: np.ndarray, disc: DiscGeometry) -> np.ndarray:
    """How much each voxel is marrow rather than disc, cortex or canal, 0..1, by T1; float32 (slices, n, n)."""
    bodies = (np.abs(u) < 0.35) & (np.abs(v) > disc.thickness / 2 + 0.1) & (np.abs(v) < disc.thickness / 2 + 0.35)
    typical = max(float(np.median(t1[:, bodies])), 1e-6)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 0.8) for image in t1])
    inside = _sigmoid((0.56 - np.abs(u)) / 0.02)
    return _sigmoid((smooth / typical - 0.72) / 0.06) * inside


def _brighten(images: Images, mask: np.ndarray, changes: dict[str, Change], rng: np.random.Generator) -> None:
    """Change each contrast, in place, by a factor drawn between its bounds, where `mask` is 1."""
    for contrast, image in images.items():
        low, high = changes[contrast]
        image *= 1 + np.float32(low + (high - low) * rng.random()) * mask


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.clip(x, -30, 30)))).astype(np.float32)
