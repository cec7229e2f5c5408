"""Make a spine with a vertebra too many or too few from an ordinary one.

Counted from the sacrum and from above, the levels of such a spine have different names, and one sagittal slice cannot
tell which are right. Training shows each spine under one of the two sets of names at random, so that the detector's
scores divide between both, and the numbering (modic/levels/numbering.py) is uncertain.
"""

import cv2
import numpy as np

from modic.records import LEVELS

SEAM = 0.12  # width of the band in which the two parts blend / distance between two discs
NAMES = len(LEVELS)


def rename(names: np.ndarray, by: int) -> np.ndarray:
    """Move all `names` (n,), from head to foot, by so many levels towards the foot; -1 for a disc outside the six."""
    first = int(np.argmax(names >= 0)) if (names >= 0).any() else len(names)
    index = np.arange(len(names)) - first + (names[first] if first < len(names) else 0) + by
    return np.where((index >= 0) & (index < NAMES), index, -1)


def change_count(
    image: np.ndarray, boxes: np.ndarray, names: np.ndarray, rng: np.random.Generator, *, added: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Add one vertebra with its disc, or take one away.

    The lower part of the slice moves along the spine by the distance between two discs; the seam runs through a
    vertebral body. At least four discs are needed.

    Args:
        image: float32 (rows, columns).
        boxes: (n, 4) x0, y0, x1, y1 in px, from head to foot.
        names: (n,) index in LEVELS, -1 above T12/L1.

    Returns:
        The image, its boxes, its names counted from the sacrum, and by how much `rename` must move these to count from
        above.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    i = int(rng.integers(1, len(boxes) - 2))  # the vertebra between discs i and i + 1 is shown twice, or not at all
    step = centres[i + 1] - centres[i]
    seam = (centres[i] + centres[i + 1]) / 2 + step if added else (centres[i - 1] + centres[i]) / 2
    by = step if added else (centres[i - 1] - centres[i + 1]) / 2
    moved = cv2.warpAffine(image, np.array([[1, 0, by[0]], [0, 1, by[1]]]), image.shape[::-1])
    length = float(np.linalg.norm(step))
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    below = ((x - seam[0]) * step[0] + (y - seam[1]) * step[1]) / length
    share = np.clip(below / (SEAM * length) + 0.5, 0, 1).astype(np.float32)
    lower = boxes[i + 1 :] + np.tile(by, 2)
    upper = boxes[: i + 2] if added else boxes[:i]
    upper_names = names[: i + 2] if added else names[:i]
    counted = np.concatenate([rename(upper_names, -1 if added else 1), names[i + 1 :]])
    return image * (1 - share) + moved * share, np.concatenate([upper, lower]), counted, 1 if added else -1
