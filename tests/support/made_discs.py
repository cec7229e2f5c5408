"""Discs for training tests, made in a moment."""

import numpy as np

from modic.train.data.disc_geometry import DiscGeometry
from modic.train.data.discs import Disc

GEOMETRY = DiscGeometry(width=48 / (1.35 * 1.5), thickness=0.22, tilt=0.0)


def made_up(patients: int = 40) -> list[Disc]:
    """Noisy discs of all types, some called real; 0 dark, 1 bright on T2, 2 bright on both."""
    rng, discs = np.random.default_rng(0), []
    for patient in range(patients):
        source = "spider" if patient % 2 else "phantom"
        for label in (0, 1, 2) if source == "phantom" else (0, 2):
            t1, t2 = rng.normal(1, 0.05, (2, 5, 48, 48)).astype(np.float32)
            t1[:, 30:38] += label == 2
            t2[:, 30:38] += label > 0
            discs.append(Disc({"t1": t1, "t2": t2}, label, "L4/L5", f"p{patient}", source, GEOMETRY, 3))
    return discs
