"""Spin-echo signal of tissues, so that T1, T2 and STIR of a patient are images of one anatomy.

Relaxation times at 1.5 T in ms: de Bazelaire et al., Radiology 2004 (muscle, marrow, fat); Stanisz et al., MRM 2005
(cord, muscle); Pfirrmann-graded discs after Marinelli et al., AJNR 2010 (T2 108 ms in grade II, 53 in IV). Values
marked (FSE) are the effective ones of a turbo spin echo: fat stays brighter (J-coupling), CSF recovers faster (restore
pulse, flow).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Tissue:
    """Proton density (0-1), T1 and T2 in ms at 1.5 T; fat suppression acts on tissues marked `fat`."""

    density: float
    t1_ms: float
    t2_ms: float
    fat: bool = False


TISSUES = {
    "air": Tissue(0.0, 1000, 10),
    "fat": Tissue(0.90, 300, 115, fat=True),  # (FSE)
    "marrow_water": Tissue(0.80, 850, 52),
    "oedema": Tissue(1.00, 1750, 160),  # MC1: long T1, long T2
    "sclerosis": Tissue(0.15, 800, 30),
    "cortex": Tissue(0.06, 800, 12),
    "ligament": Tissue(0.18, 700, 20),
    "muscle": Tissue(0.80, 870, 34),
    "csf": Tissue(1.00, 2600, 1200),  # (FSE)
    "cord": Tissue(0.85, 780, 78),
    "root": Tissue(0.80, 800, 65),
    "nucleus": Tissue(0.95, 1250, 145),
    "nucleus_dry": Tissue(0.75, 900, 48),
    "annulus": Tissue(0.55, 850, 33),
    "blood": Tissue(0.08, 1400, 60),  # flow void
    "vein": Tissue(0.85, 1400, 160),  # slow flow: basivertebral, haemangioma
    "bowel": Tissue(0.75, 950, 60),
}


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parameters of one acquisition: times in ms, field in tesla. With `ti_ms` it is an inversion recovery."""

    name: str
    tr_ms: float
    te_ms: float
    ti_ms: float | None = None
    fat_suppressed: bool = False
    field_t: float = 1.5
    contrast_agent: bool = False


def signal(tissue: str, sequence: Sequence) -> float:
    """Magnitude of the (inversion-recovery) spin-echo signal of a tissue; 1 is fully relaxed tissue of density 1.

    PD (1 - e^(-TR/T1)) e^(-TE/T2), or PD |1 - 2 e^(-TI/T1) + e^(-TR/T1)| e^(-TE/T2). T1 of water grows with the field
    as B^0.35 (Bottomley et al. 1984), that of fat as B^0.1, and that of CSF does not change.
    """
    t = TISSUES[tissue]
    power = 0.0 if tissue == "csf" else 0.1 if t.fat else 0.35
    t1 = t.t1_ms * (sequence.field_t / 1.5) ** power
    if sequence.contrast_agent and tissue in ("oedema", "vein", "blood"):
        t1 = 1 / (1 / t1 + 0.0025)
    recovered = 1 - np.exp(-sequence.tr_ms / t1)
    if sequence.ti_ms is not None:
        recovered = abs(1 - 2 * np.exp(-sequence.ti_ms / t1) + np.exp(-sequence.tr_ms / t1))
    suppressed = 0.08 if sequence.fat_suppressed and t.fat else 1.0
    return float(t.density * recovered * np.exp(-sequence.te_ms / t.t2_ms) * suppressed)


def stir_null_ti(sequence: Sequence) -> float:
    """Inversion time in ms that nulls fat at this repetition time and field."""
    t1 = TISSUES["fat"].t1_ms * (sequence.field_t / 1.5) ** 0.1
    return float(t1 * np.log(2 / (1 + np.exp(-sequence.tr_ms / t1))))
