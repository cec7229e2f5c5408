"""How a disc lies in its region, estimated from its upright box."""

from dataclasses import dataclass

import numpy as np

THICKNESS = 0.22  # of a disc / its width from front to back: lumbar 8-10 mm over 35-42 mm


@dataclass(frozen=True, slots=True)
class DiscGeometry:
    """Where the endplates are in a region."""

    width: float  # of the disc from front to back, px
    thickness: float  # / width
    tilt: float  # rad, > 0 if the front lies lower


def disc_geometry(box: tuple[float, float, float, float], *, front_down: bool, width_px: float) -> DiscGeometry:
    """Tilt and thickness from a disc's upright box (x0, y0, x1, y1).

    The disc is taken for a plate `THICKNESS` times as thick as wide: the more it is tilted, the higher is its box for
    its width. The sign of the tilt comes from the caller. A box flatter than that is an untilted, thinner plate.

    Args:
        front_down: whether the front lies lower, as at L4/L5 and L5/S1.
        width_px: width of the box in the region, px.
    """
    aspect = (box[3] - box[1]) / max(box[2] - box[0], 1e-6)
    tilt = np.arctan2(max(aspect - THICKNESS, 0), 1 - THICKNESS * aspect) * (1 if front_down else -1)
    thickness = aspect if aspect < THICKNESS else THICKNESS
    return DiscGeometry(width_px * np.cos(tilt), thickness, float(tilt))
