"""A random view of one slice and its boxes: field of view, scale, contrast, bias field, coil fall-off, noise, blur."""

import cv2
import numpy as np


def augment(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random view of one slice.

    Args:
        image: float32 (rows, columns) in 0..1.
        boxes: (n, 4) x0, y0, x1, y1 in its pixels.
        size: side of the square view, px.

    Returns:
        The view, float32 (size, size) in 0..1; boxes (n, 4) in its pixels; and bool (n,), which boxes are still at
        least 60 % inside. A rotated box is the bounding box of its corners, shrunk by half of what that adds.
    """
    matrix = _affine(image.shape, boxes, rng, size)
    view = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=0.0)
    moved = _move(boxes, matrix)
    inside = np.clip(moved, 0, size - 1)
    kept = _area(inside) >= 0.6 * _area(moved)
    return _intensity(view, rng), inside, kept


def _affine(shape: tuple[int, ...], boxes: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """(2, 3): rotation by ±10° (the paper's), scale 0.75-1.5, and a shift; every fifth view ends within the spine.

    A view without the sacrum keeps the true names: the network learns that it can hardly know them, and its scores show
    it.
    """
    base = size / max(shape)
    scale = base * np.exp(rng.uniform(np.log(0.75), np.log(1.5)))
    centre = np.array([shape[1] / 2, shape[0] / 2])
    if rng.random() < 0.7:  # look where the spine is
        centre = (boxes[:, :2].mean(0) + boxes[:, 2:].mean(0)) / 2
    matrix = cv2.getRotationMatrix2D(tuple(map(float, centre)), rng.uniform(-10, 10), scale)
    matrix[:, 2] = matrix[:, 2] + size / 2 - centre + rng.uniform(-0.12, 0.12, 2) * size
    aspect = np.exp(rng.uniform(-0.08, 0.08))
    matrix[0] *= aspect
    if rng.random() < 0.2:
        _cut(matrix, boxes, rng, size)
    return matrix


def _cut(matrix: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, size: int) -> None:
    """Shift `matrix` in place, so that the lower or upper edge of the view lies between two of the outer discs."""
    y = np.sort(_move(boxes, matrix)[:, 1::2].mean(1))
    if len(y) < 4:
        return
    place = rng.uniform(0, 2)  # 0: on the outermost disc, 2: on the third
    if rng.random() < 0.75:
        edge = np.interp(len(y) - 1 - place, np.arange(len(y)), y)
        matrix[1, 2] += size - edge
    else:
        matrix[1, 2] -= np.interp(place, np.arange(len(y)), y)


def _move(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) under an affine map (2, 3)."""
    x0, y0, x1, y1 = boxes.T
    corners = np.stack([(x0, y0), (x1, y0), (x0, y1), (x1, y1)])  # (4, 2, n)
    moved = np.einsum("ij,kjn->kin", matrix[:, :2], corners) + matrix[:, 2][None, :, None]
    hull = np.concatenate([moved.min(0), moved.max(0)]).T
    centre = (hull[:, :2] + hull[:, 2:]) / 2
    straight = np.stack([x1 - x0, y1 - y0]).T * np.linalg.norm(matrix[:, :2], axis=1)
    half = (straight + (hull[:, 2:] - hull[:, :2])) / 4  # between the unrotated size and the hull
    return np.concatenate([centre - half, centre + half], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


def _intensity(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The view with other receive field, coil, blur, frame, tone and noise; float32 in 0..1."""
    size = view.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    a, b, c = rng.normal(0, 0.35, 3).astype(np.float32)
    view = view * np.exp(a * x + b * y + c * x * y)  # receive field
    if rng.random() < 0.3:  # surface coil: bright at the back, dark in front
        view = view * np.exp(rng.uniform(0.3, 1.2) * x)
    if rng.random() < 0.3:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.4, 1.3))
    if rng.random() < 0.25:  # dark frame of a padded matrix
        margin = int(rng.uniform(0, 0.12) * size)
        view[:margin], view[size - margin :] = 0, 0
    view = _tone(view, rng)
    noise = rng.uniform(0, 0.06 if rng.random() < 0.8 else 0.15) * rng.standard_normal(
        (2, size, size), dtype=np.float32
    )
    view = np.hypot(view + noise[0], noise[1])  # Rician, as magnitude images are
    high = np.percentile(view, rng.uniform(98, 99.9))
    return np.clip(view / max(float(high), 1e-6), 0, 1).astype(np.float32) ** np.float32(rng.uniform(0.6, 1.5))


def _tone(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sometimes a contrast that no sequence has: bright and dark exchanged, or a curve that rises and falls."""
    kind = rng.random()
    if kind > 0.35:
        return view
    high = max(float(np.percentile(view, 99.5)), 1e-6)
    unit = np.clip(view / high, 0, 1)
    if kind < 0.1:
        return np.where(unit > 0.03, 1.03 - unit, unit).astype(np.float32)
    knots = np.concatenate([[0.0], rng.random(4)])  # air stays dark
    return np.interp(unit, np.linspace(0, 1, 5), knots).astype(np.float32)
