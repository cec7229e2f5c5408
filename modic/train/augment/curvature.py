"""Spines bent at a lumbar disc, so that the sacrum lies steeper or flatter: patients differ by 30° and more there.

The slope of the sacrum differs by tens of degrees between healthy adults;
the same disc then looks like another one to a detector that only knows names by their looks.
"""

import cv2
import numpy as np

STEEPER, FLATTER = 35.0, 20.0  # degrees, at most
FULL = 2.5  # distances between discs below the pivot at which the whole angle is reached


def bend(
    image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, *, degrees: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Turn what lies below one of the lower discs, the further down the more; the upper part stays.

    Args:
        image: float32 (rows, columns), anterior at the left. boxes: (n, 4) px, head to foot, four or more.
        degrees: positive turns the sacrum backwards (steeper); drawn where None.

    Returns:
        The image and its boxes: each moves with its centre; its size is half-way between its own and that of the
        hull of the turned box, since a box has a margin around the disc.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    i = len(boxes) - int(rng.integers(2, 5))
    pivot, axis = centres[i], centres[i + 1] - centres[i]
    length = float(np.linalg.norm(axis))
    angle = np.deg2rad(rng.uniform(-FLATTER, STEEPER) if degrees is None else degrees)

    def turned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far the bent image is turned at its points: all of it below the pivot, none at its level and above."""
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
    """(…, 2) points x, y turned by angles (…) so that what lies below the origin moves to larger x."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x + sin * y, -sin * x + cos * y], -1)


def _boxes(centres: np.ndarray, sizes: np.ndarray, angles: np.ndarray) -> np.ndarray:
    cos, sin = np.abs(np.cos(angles))[:, None], np.abs(np.sin(angles))[:, None]
    half = (sizes + cos * sizes + sin * sizes[:, ::-1]) / 4
    return np.concatenate([centres - half, centres + half], axis=1)
