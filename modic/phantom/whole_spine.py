"""The same synthetic patient from the sacrum to the base of the skull, as a whole-spine localizer shows it.

Sizes are those of adults: thoracic bodies 20 to 16 mm high, cervical ones 14 mm, C2 with its dens 38 mm (Panjabi 1991;
Gilad and Nissan 1986). A vertebra more or fewer is put in or left out of the thoracic spine.
"""

from dataclasses import replace

import numpy as np

from modic.phantom.anatomy import VERTEBRAE, Patient

_THORACIC = 7  # T7 to T1: anatomy.VERTEBRAE ends at T8
_CERVICAL = 5  # C7 to C3
PRESACRAL_DISCS = 23  # from L5/S1 to C2/C3
CLIVUS_GAP_MM = 6.0  # between the tip of the dens and the clivus: a dark line that is no disc


def with_whole_spine(patient: Patient, *, seed: int, more: int = 0) -> Patient:
    """`patient` with everything above T8 added; `more` vertebrae than usual, or fewer if negative (-1 to 1).

    Vertebrae beyond anatomy.VERTEBRAE have no names: the uppermost two are C2 and the clivus.
    """
    rng = np.random.default_rng([patient.seed, seed, 3])
    size = patient.height[-1] / 20.0
    thoracic = _THORACIC + more
    height = np.concatenate([np.linspace(19.5, 16.5, thoracic), np.full(_CERVICAL, 14.0), [38.0, 35.0]])
    depth = np.concatenate([np.linspace(26, 18, thoracic), np.full(_CERVICAL, 15.5), [13.0, 12.0]])
    disc = np.concatenate([np.linspace(5.0, 4.0, thoracic), np.full(_CERVICAL + 1, 4.0), [CLIVUS_GAP_MM]])
    turn = np.concatenate([np.full(thoracic, -34.0 / thoracic), np.linspace(2, 9, _CERVICAL + 1), [-8.0]])
    height = height * size * rng.normal(1, 0.03, len(height))
    depth = depth * size * rng.normal(1, 0.03, len(depth))
    disc = disc * size * rng.normal(1, 0.1, len(disc))
    turn = turn * rng.uniform(0.6, 1.3) + rng.normal(0, 1, len(turn))
    low = patient.high[-1] + np.cumsum(disc) + np.concatenate([[0], np.cumsum(height[:-1])])
    high = low + height
    middle = low - disc / 2
    n = len(height)
    return replace(
        patient,
        height=np.concatenate([patient.height, height]),
        depth=np.concatenate([patient.depth, depth]),
        width=np.concatenate([patient.width, depth * 1.3]),
        disc=np.concatenate([patient.disc, disc]),
        degeneration=np.concatenate([patient.degeneration, rng.uniform(0.1, 0.9, n)]),
        bulge=np.concatenate([patient.bulge, np.zeros(n)]),
        low=np.concatenate([patient.low, low]),
        high=np.concatenate([patient.high, high]),
        axis=_longer(patient.axis, patient.high[-1], middle, np.maximum(disc, 8), turn, high[-1] + 40),
        smooth=_longer(patient.smooth, patient.high[-1], middle, np.full(n, 70.0), turn, high[-1] + 40),
    )


def disc_centres_mm(patient: Patient) -> np.ndarray:
    """(n, 3) LPS mm of the discs from L5/S1 to the uppermost, which of a whole spine is C2/C3."""
    first = VERTEBRAE.index("S1")
    last = len(patient.disc) - (1 if len(patient.height) > len(VERTEBRAE) else 0)  # the clivus' gap is none
    s = (patient.high[first:last] + patient.low[first + 1 : last + 1]) / 2
    y, z = patient.point(s, np.zeros_like(s))
    return np.stack([np.asarray(patient.lateral(z)), y, z], axis=1)


def _longer(
    axis: np.ndarray, from_s: float, middle: np.ndarray, widths: np.ndarray, turn: np.ndarray, to_s: float
) -> np.ndarray:
    """The table of an axis (n, 4) of s, y, z, phi, going on above arc length `from_s`, turning at `middle`."""
    step = axis[1, 0] - axis[0, 0]
    kept = axis[axis[:, 0] <= from_s]
    s = np.arange(kept[-1, 0] + step, to_s, step)
    ramps = np.clip((s[:, None] - middle) / widths + 0.5, 0, 1)
    phi = kept[-1, 3] + np.deg2rad(ramps @ turn - np.clip((kept[-1, 0] - middle) / widths + 0.5, 0, 1) @ turn)
    y = kept[-1, 1] + np.cumsum(np.sin(phi)) * step
    z = kept[-1, 2] + np.cumsum(np.cos(phi)) * step
    return np.concatenate([kept, np.stack([s, y, z, phi], axis=1)])
