"""Whether a T1 and a STIR show the discs at the same place: the detector is asked on both.

Mutual information serves for T1 and T2 (modic/imaging/registration.py). Between T1 and STIR it failed on the only real
study: fat and marrow, most of a T1, are near the noise of a STIR. The detector finds discs on either.
"""

from dataclasses import dataclass

import numpy as np

from modic.config import LevelOptions
from modic.imaging.regions import move_box, slices_at
from modic.imaging.volume import CanonicalVolume, square_pixels
from modic.levels.detect import detect, merge
from modic.models.weights import Model
from modic.records import LevelSet
from modic.text import counted

MATCH_MM = 12.0  # discs whose centres lie farther apart are no match; lumbar discs lie 28 mm apart and more
MIN_SCORE = 0.3  # of a disc on T1, under any name
MIN_DISCS = 4
REFUSED_MM = 2.5  # 1.8 at most on 20 phantoms, 1.4 on the real study; 16 of 19 T1 of another phantom are refused


@dataclass(frozen=True, slots=True)
class DiscsApart:
    """How many discs of a level set another volume shows nearby, and how far from them in the median."""

    matched: int
    apart_mm: float

    @property
    def agrees(self) -> bool:
        """Whether both volumes show one spine at one place."""
        return self.matched >= MIN_DISCS and self.apart_mm <= REFUSED_MM

    def __str__(self) -> str:
        return f"{counted(self.matched, 'disc')} found on both, {self.apart_mm:.1f} mm apart"


def discs_apart(
    levels: LevelSet, found_on: CanonicalVolume, other: CanonicalVolume, *, detector: Model, options: LevelOptions
) -> DiscsApart:
    """The discs of `levels`, in native pixels of `found_on`, and those on the same slices of `other`."""
    square = square_pixels(other)
    discs = [move_box(found_on.native, square.grid, disc) for disc in levels.boxes]
    slices = slices_at(discs, options.slices, len(square.voxels), square.spacing_mm[2])
    candidates = merge(detect(square.voxels[slices], detector), MIN_SCORE) if slices else []
    if not candidates:
        return DiscsApart(0, 0.0)
    spacing = np.array(square.spacing_mm[:2])
    here, there = (_centres(boxes) * spacing for boxes in ([d.box for d in discs], [c.box for c in candidates]))
    apart = there[None] - here[:, None]  # (discs, candidates, 2)
    nearest = np.linalg.norm(apart, axis=2).min(1)
    matched = nearest[nearest <= MATCH_MM]
    return DiscsApart(len(matched), float(np.median(matched)) if len(matched) else 0.0)


def _centres(boxes: list) -> np.ndarray:
    corners = np.array(boxes, float)
    return np.asarray((corners[:, :2] + corners[:, 2:]) / 2)
