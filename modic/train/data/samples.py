"""A labelled slice, which the detector learns from, and a slice as a volume."""

from dataclasses import dataclass

import numpy as np

from modic.imaging.volume import CanonicalVolume, Volume

SPIDER_MM = 0.6  # nominal pixel side: the spacing of a picture is unknown, and everything scales with the boxes


@dataclass(frozen=True, eq=False)
class Sample:
    """One sagittal slice with named discs."""

    patient: str
    contrast: str  # t1 | t2 | t2_SPACE | …
    image: np.ndarray  # uint8 (rows, columns)
    boxes: np.ndarray  # (n, 4) x0, y0, x1, y1 in px, from head to foot
    names: np.ndarray  # int (n,) index in LEVELS, -1 above T12/L1
    other: int = 0  # in a transitional spine: all names may also be moved by this (augment.transitional.rename)
    given: bool = True  # people drew the boxes; False: a detector did, or the slice is synthetic


def slice_volume(image: np.ndarray, placed: np.ndarray) -> CanonicalVolume:
    """A volume of one sagittal slice.

    Args:
        image: (rows, columns), front of the body at the left.
        placed: (3, 3), maps (column, row, 1) to the pixels of a grid that T1 and T2 share, `SPIDER_MM` apart.
    """
    affine = np.eye(4)
    affine[:3, 2] = (1, 0, 0)
    affine[1:3, :2] = (np.diag([1, -1]) @ placed[:2, :2]) * SPIDER_MM
    affine[1:3, 3] = np.array([1, -1]) * placed[:2, 2] * SPIDER_MM
    affine[0, :2] = 0
    return Volume(image[None].astype(np.float32), affine).canonical()
