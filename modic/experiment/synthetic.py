"""A synthetic cohort for the study: `synthetic=912` makes as many patients as the paper's, with its share of each type.

The difficulty of the cohort was tuned by the depth of its lesions, with `standardize` alone, once for each profile,
until balanced accuracy fell within the paper's range of results (0.71 to 0.80). The phantom's own depths are 4 to 14 mm
from the endplate; as a share of them:

- full: 0.4. Four folds (two each of the first two repeats) of the full networks on an H200: 0.81, 0.76, 0.79, 0.79; two
  folds at 0.3: 0.72, 0.73. At 0.8 and above, networks a quarter as wide had a log loss of 0.22 after four epochs; at
  0.4 they had 0.55 after eight.
- quick (24 px, 180 batches): 1.25. Mean of the first repeat's five folds: 0.69 at 1, 0.74 at 1.25 (0.75 with batches as
  they are drawn now). Networks that are trained so briefly miss smaller lesions.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from modic.phantom.many import on_all_cores
from modic.train.data.discs import Disc
from modic.train.data.phantom_discs import imaged_discs

if TYPE_CHECKING:
    from modic.phantom.anatomy import Patient

P_MC1, P_MC2 = 0.05, 0.15  # the paper's shares of regions
SNR = (12.0, 60.0)  # signal-to-noise ratio, as in the training on phantoms
MATRIX, PIXEL_MM = (212, 112), (1.25, 1.35)  # 280 mm of the spine, 145 mm from front to back
FIRST_SEED = 9_120_000


def synthetic_discs(
    patients: int, preprocessing: dict[str, Any], *, lesion_depth: float,
    tell: Callable[[int], None] = lambda done: None,
) -> list[Disc]:  # fmt: skip
    """Discs of all six levels of synthetic patients; each patient takes a core a third of a second.

    Args:
        lesion_depth: depth of the lesions / the phantom's own.
        tell: called with the number of patients that are done.
    """
    ordinary = (seed for seed in count(FIRST_SEED) if not synthetic_patient(seed, lesion_depth).transitional)
    seeds = list(islice(ordinary, patients))
    imaged = partial(_imaged, preprocessing=preprocessing, lesion_depth=lesion_depth)
    discs: list[Disc] = []
    for done, of_patient in enumerate(on_all_cores(imaged, seeds), 1):
        discs += of_patient
        tell(done)
    return discs


def _imaged(seed: int, preprocessing: dict[str, Any], lesion_depth: float) -> list[Disc]:
    patient = synthetic_patient(seed, lesion_depth)
    return imaged_discs(patient, preprocessing, matrix=MATRIX, pixel_mm=PIXEL_MM, snr=SNR)


def synthetic_patient(seed: int, lesion_depth: float) -> "Patient":
    """A patient of the cohort, whose lesions are `lesion_depth` times as deep as the phantom's."""
    from modic.phantom.anatomy import make_patient

    patient = make_patient(seed, p_mc1=P_MC1, p_mc2=P_MC2)
    changed = tuple(
        replace(lesion, depth_mm=lesion.depth_mm * lesion_depth) if lesion.kind in ("mc1", "mc2") else lesion
        for lesion in patient.lesions
    )
    return replace(patient, lesions=changed)
