"""How a disc lies in its region, from its upright box."""

from dataclasses import dataclass

import numpy as np

THICKNESS = 0.22  # of a disc over its width from front to back: lumbar 8-10 mm over 35-42 mm


@dataclass(frozen=True, slots=True)
class DiscGeometry:
    """Where the endplates are in a region: disc width in px, thickness / width, and tilt (rad, > 0 front down)."""

    width: float
    thickness: float
    tilt: float


def disc_geometry(box: tuple[float, float, float, float], *, front_down: bool, width_px: float) -> DiscGeometry:
    """Tilt and thickness from a disc's upright box: the box of a plate of thickness `THICKNESS` * width is as flat
    as its tilt allows, so the box's aspect gives the tilt (its sign comes from the caller) and then the thickness."""
    aspect = (box[3] - box[1]) / max(box[2] - box[0], 1e-6)
    tilt = np.arctan2(max(aspect - THICKNESS, 0), 1 - THICKNESS * aspect) * (1 if front_down else -1)
    flat = aspect if aspect < THICKNESS else THICKNESS
    return DiscGeometry(width_px * np.cos(tilt), flat, float(tilt))
