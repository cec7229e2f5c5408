"""Localizers of whole spines of phantoms, of a known number of discs."""

from dataclasses import dataclass

import numpy as np

from modic.imaging.volume import CanonicalVolume
from modic.phantom.anatomy import Patient, make_patient
from modic.phantom.physics import Sequence
from modic.phantom.render import Grid, render
from modic.phantom.whole_spine import disc_centres_mm, with_whole_spine

T2_WEIGHTED = Sequence("t2", 3500, 100)
SEED = 1_000_400  # training ends at 109, and what the card measures at 1,000,300


@dataclass(frozen=True, eq=False)
class WholeSpine:
    """A patient, the discs (n, 3) LPS from L5/S1 up to C2/C3, and how a localizer lies."""

    patient: Patient
    discs: np.ndarray
    grid: Grid

    @property
    def named(self) -> np.ndarray:
        """(6, 3): the lumbar discs, head to foot."""
        return self.discs[:6][::-1]

    def localizer(self) -> CanonicalVolume:
        return render(self.patient, self.grid, T2_WEIGHTED, seed=1, snr=40, coil=0.2).canonical()


def whole_spine(*, more: int = 0, pixel_mm: float = 1.4, slices: int = 2, seed: int = SEED) -> WholeSpine:
    """`more` discs than the usual 23; a stack of few slices over C2 to the sacrum, the midline nearest to the first."""
    lumbar = make_patient(seed, p_mc1=0, p_mc2=0, p_transitional=0)
    patient = with_whole_spine(lumbar, seed=1, more=more)
    discs = disc_centres_mm(patient)
    x = float(np.median(discs[:, 0])) + 12.0 * (slices - 1) / 2
    y, z = (float(discs[:, axis].min() + discs[:, axis].max()) / 2 for axis in (1, 2))
    size = int(760 / pixel_mm), int(300 / pixel_mm)
    grid = Grid("sagittal", *size, pixel_mm, slices, 12.0, 6.0, (x, y, z + 10))
    return WholeSpine(patient, discs, grid)
