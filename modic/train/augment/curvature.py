"""Bend a spine at a lumbar disc, so that the sacrum lies steeper or flatter.

The slope of the sacrum differs by 30° and more between healthy adults. A detector knows the discs by their looks only,
and with another slope a disc may look like its neighbour.
"""

import cv2
import numpy as np

STEEPER, FLATTER = 35.0, 20.0  # degrees, at most
FULL = 2.5  # distance below the pivot, in distances between discs, from which the whole angle applies


def bend(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, *, degrees: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Turn everything below one of the lower discs, the further down the more; the upper part stays.

    Args:
        image: float32 (rows, columns), the front of the body at the left.
        boxes: (n, 4) x0, y0, x1, y1 in px, from head to foot, four or more.
        degrees: positive turns the sacrum backwards (steeper); drawn at random if it is None.

    Returns:
        The image and its boxes. A box moves with its centre; its size is half-way between its own and that of the hull
        of the turned box, since a box has a margin around the disc.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    i = len(boxes) - int(rng.integers(2, 5))
    pivot, axis = centres[i], centres[i + 1] - centres[i]
    length = float(np.linalg.norm(axis))
    angle = np.deg2rad(rng.uniform(-FLATTER, STEEPER) if degrees is None else degrees)

    def turned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Angle (rad) at points of the bent image: none above the pivot and at its level, all of it further below."""
        dx, dy = x - pivot[0], y - pivot[1]
        radius = np.hypot(dx, dy)
        below = np.clip((dx * axis[0] + dy * axis[1]) / np.maximum(radius * length, 1e-6), 0, 1)
        return angle * np.clip(radius / (FULL * length), 0, 1) * _smooth(np.clip(below * 1.5, 0, 1))

    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    source = _turn(np.stack([x, y], -1) - pivot, -turned(x, y)) + pivot
    bent = cv2.remap(image, source.astype(np.float32), None, cv2.INTER_LINEAR, borderValue=0.0)  # type: ignore[call-overload]
    moved = centres
    for _ in range(20):  # the angle depends on where a point comes to lie
        moved = _turn(centres - pivot, turned(*moved.T)) + pivot
    return bent, _boxes(moved, boxes[:, 2:] - boxes[:, :2], turned(*moved.T))


def _smooth(share: np.ndarray) -> np.ndarray:
    return share * share * (3 - 2 * share)


def _turn(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points (…, 2) x, y turned by angles (…) so that those below the origin move to larger x."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x + sin * y, -sin * x + cos * y], -1)


def _boxes(centres: np.ndarray, sizes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) at `centres` (n, 2), of `sizes` (n, 2) half adapted to `angles` (n,)."""
    cos, sin = np.abs(np.cos(angles))[:, None], np.abs(np.sin(angles))[:, None]
    half = (sizes + cos * sizes + sin * sizes[:, ::-1]) / 4
    return np.concatenate([centres - half, centres + half], axis=1)
