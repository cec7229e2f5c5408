"""Volume + discs → the contrast of a sagittal lumbar stack, where the header does not say it
(modic/series/contrast.py).

Between neighbouring discs four tissues are measured on each slice, less the air: the marrow of the body, the canal
behind it (cerebrospinal fluid), the fat behind the canal, and the discs themselves. A slice tells

| row | condition                                                                               | role    |
|-----|-----------------------------------------------------------------------------------------|---------|
| L1  | what should be the canal varies by over `STEADY` along a body: pedicles and foramina    | unknown |
| L2  | canal <= 0.65 marrow, disc <= 0.95 marrow, fat >= 1.5 canal                             | t1      |
| L3  | canal >= 1.1 marrow and >= 1.5 disc, disc <= 1.25 marrow, fat >= 0.3 canal              | t2      |
| L4  | canal >= 2 marrow, disc >= 1.2 marrow, fat <= 0.15 canal: fat is suppressed             | stir    |
| L5  | otherwise                                                                               | unknown |

and a stack with `MIN_DISCS` discs what two of its slices tell, or its only one, if none tells another. L1 matters: the
fat of the foramina makes a slice beside the canal of a T1 look like a T2. Thresholds were chosen on SPIDER's training
patients, wide apart: a T1 for a T2 is worse than no answer. What the pixels cannot tell: a T1 after a contrast agent
from one before it, a gradient echo with bright fluid and fat from a T2, STIR from another fat-suppressed T2.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from modic.imaging.volume import Volume
from modic.records import Role
from modic.series.contrast import RoleFound

Box = tuple[float, float, float, float]
MIN_DISCS = 4
BETWEEN = np.linspace(0.2, 0.8, 19)  # of the way from one disc to the next
CANAL = (-0.10, 0.10)  # of a disc box's width, from its hind edge
FAT = (0.8, 2.5)  # the same
INNER = 0.2  # of a box's own width, to both sides of its middle
ENOUGH = 2
STEADY = 0.25  # of its median, between the 15th and the 85th percentile
VERSION = 1  # of this table; what was told by another is told anew


def look(volume: Volume, boxes: Iterable[Box], slices: Iterable[int]) -> RoleFound:
    """The role that `slices` of a canonical volume show, with the measurements as evidence.

    `boxes`: discs from head to foot, in its pixels, with the detector's margin of about 5 mm.
    """
    discs = np.array([*boxes], float).reshape(-1, 4)
    if len(discs) < MIN_DISCS:
        return RoleFound("unknown", f"pixels: {len(discs)} discs found, {MIN_DISCS} needed")
    signals = [measure(volume.voxels[index], discs) for index in slices]
    told = [one.tell() for one in signals]
    known = Counter(role for _, role in told if role != "unknown")
    if len(known) != 1 or known.total() < min(ENOUGH, len(told)):
        return RoleFound("unknown", f"pixels: {signals[len(signals) // 2]} → unknown")
    where = next(index for index, (_, role) in enumerate(told) if role in known)
    row, role = told[where]
    return RoleFound(role, f"pixels: {signals[where]} → {role} ({row})")


@dataclass(frozen=True, slots=True)
class Signals:
    """Of one slice: medians over levels, less the air."""

    marrow: float
    canal: float
    fat: float
    disc: float
    canal_varies: float  # of its signal, along a body

    def __str__(self) -> str:
        if self.marrow <= 0:
            return "no marrow"
        parts = (("canal", self.canal), ("fat", self.fat), ("disc", self.disc))
        return ", ".join(f"{name} {signal / self.marrow:.2f}" for name, signal in parts) + " of marrow"

    def tell(self) -> tuple[str, Role]:
        """The row of the table that holds, and its role."""
        marrow, canal, fat, disc = self.marrow, self.canal, self.fat, self.disc
        if min(marrow, canal, disc) <= 0:
            return "L5", "unknown"
        if self.canal_varies > STEADY:
            return "L1", "unknown"
        if canal <= 0.65 * marrow and disc <= 0.95 * marrow and fat >= 1.5 * canal:
            return "L2", "t1"
        if canal >= 1.1 * marrow and canal >= 1.5 * disc and disc <= 1.25 * marrow and fat >= 0.3 * canal:
            return "L3", "t2"
        if canal >= 2 * marrow and disc >= 1.2 * marrow and fat <= 0.15 * canal:
            return "L4", "stir"
        return "L5", "unknown"


def measure(image: np.ndarray, discs: np.ndarray) -> Signals:
    """The four tissues on one slice (rows, columns); `discs` (n, 4) from head to foot."""
    x0, y0, x1, y1 = discs.T
    x, y, inner, width = (x0 + x1) / 2, (y0 + y1) / 2, INNER * (x1 - x0), float(np.median(x1 - x0))
    between = (np.arange(len(discs) - 1)[:, None] + BETWEEN).ravel()
    row, middle, hind, half = (np.interp(between, np.arange(len(discs)), v) for v in (y, x, x1, inner))
    marrow = [np.median(one) for one in _patches(image, row, row, middle - half, middle + half)]
    canal = [np.median(one) for one in _patches(image, row, row, hind + CANAL[0] * width, hind + CANAL[1] * width)]
    fat = [np.percentile(one, 90) for one in _patches(image, row, row, hind + FAT[0] * width, hind + FAT[1] * width)]
    high = 0.1 * (y1 - y0)
    disc = [np.median(one) for one in _patches(image, y - high, y + high, x - inner, x + inner)]
    air = np.percentile(image, 2)
    along = np.reshape(canal, (-1, len(BETWEEN))) - air  # a row a body
    low, signal, most = np.percentile(along, (15, 50, 85), axis=1)
    varies = float(np.median((most - low) / np.maximum(signal, 1e-6)))
    signals = [float(np.median(one) - air) for one in (marrow, canal, fat, disc)]
    return Signals(signals[0], signals[1], signals[2], signals[3], varies)


def _patches(image: np.ndarray, *sides: np.ndarray) -> list[np.ndarray]:
    """What lies between top, bottom, left and right (n,) of each, one pixel or more of the image."""
    most = [image.shape[0] - 1] * 2 + [image.shape[1] - 1] * 2
    pixels = [np.clip(np.rint(side), 0, last).astype(int) for side, last in zip(sides, most, strict=True)]
    return [image[top : bottom + 1, left : right + 1] for top, bottom, left, right in zip(*pixels, strict=True)]
