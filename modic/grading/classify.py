"""Regions → grades: a calibrated probability of each Modic type for each level, and a grade only if it is clear.

The network's logits are divided by a temperature (Guo 2017) and turned into probabilities. Type k is in the
prediction set if 1 - p_k <= q_k, with q_k the quantile of 1 - p_k over calibration discs whose true type is k
(class-conditional split conformal prediction, Vovk 2012). Temperature and q are in the card, under `calibration`:

| prediction set          | outcome                         |
|-------------------------|---------------------------------|
| one type                | `mc` is the arg max of p        |
| none, two or more types | abstained, `mc` is None         |

A grade that contradicts the marrow measured beside the endplates is taken back (modic/grading/agreement.py).

Each slice is also graded alone, with the same temperature: if slices disagree, the finding may lie in one slice only,
or be no more than a vessel or an artefact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import WeightsError
from modic.grades import AbstainedReason
from modic.grading.measured import Measured, measured_of
from modic.grading.network_output import NetworkOutput, network_output
from modic.grading.site_correction import SiteCorrection, site_correction_of
from modic.grading.thresholds import quantiles_at
from modic.models.card import contrasts
from modic.models.weights import Model
from modic.records import Grade, Region

if TYPE_CHECKING:
    import torch

    from modic.models.network import Network


def encode_regions(regions: list[Region], *, classifier: "Model[Network]") -> Any:
    """The network's encoding of normalized regions, from which both grading and saliency start; None of no regions."""
    import torch

    if not regions:
        return None
    x = network_input(regions, classifier)  # no inference tensor: saliency differentiates
    with torch.inference_mode():
        return classifier.net.encode(x)


def grade_regions(
    regions: list[Region], *, classifier: "Model[Network]", encoding: Any = None, alpha: float = 0.0,
    features: Mapping[str, np.ndarray] | None = None,
) -> list[Grade]:  # fmt: skip
    """Grade normalized regions of one study, in their order, in one batch. Same input and threads: same output.

    `encoding`: of these regions, of `encode_regions`; made here if there is none. `alpha`: how often a prediction set
    may miss the true type; 0: as the card says (modic/grading/thresholds.py). `features`: by level, of
    modic.grading.marrow_features, if the card decides by the marrow too; a level without them is graded by its images
    alone. Raises WeightsError if the card's calibration is missing or malformed.
    """
    calibration = calibration_of(classifier.card, alpha)
    if not regions:
        return []
    if encoding is None:
        encoding = encode_regions(regions, classifier=classifier)
    levels, output = [region.level for region in regions], network_output(encoding, classifier)
    return grade_output(levels, output, calibration=calibration, features=features)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a card makes grades with. `quantiles` float (classes,), the q_k of its sets."""

    temperature: float
    quantiles: np.ndarray
    measured: Measured | None
    site: SiteCorrection | None


def calibration_of(card: dict[str, Any], alpha: float = 0.0) -> Calibration:
    """Of a classifier's card, its sets at risk `alpha` (0: as the card says). Raises WeightsError."""
    temperature, quantiles = _calibration(card, alpha)
    return Calibration(
        temperature, quantiles, measured_of(card["calibration"]), site_correction_of(card["calibration"])
    )


def grade_output(
    levels: list[str], output: NetworkOutput, *, calibration: Calibration,
    features: Mapping[str, np.ndarray] | None = None,
) -> list[Grade]:  # fmt: skip
    """As `grade_regions`, of what the network gave for these levels, in their order."""
    together, each = output.logits.astype(np.float64), output.slice_logits.astype(np.float64)
    added = np.zeros_like(together)
    if (measured := calibration.measured) is not None:  # of a level without measurements 0
        nothing = np.full(len(measured.names), np.nan)
        added += measured.logits(np.stack([(features or {}).get(level, nothing) for level in levels]))
    if calibration.site is not None:
        added += calibration.site.logits(output.features)
    p = softmax((together + added) / calibration.temperature)
    slice_p = softmax((each + added[:, None]) / calibration.temperature)
    return [_grade(*level, calibration.quantiles) for level in zip(levels, p, slice_p, strict=True)]


def network_input(regions: list[Region], classifier: "Model[Network]") -> "torch.Tensor":
    """float32 (regions, contrasts, slices, size, size) on the classifier's device, contrasts in its card's order."""
    import torch

    wanted = contrasts(classifier.card)
    stacked = np.stack([np.stack([region.contrasts[name] for name in wanted]) for region in regions])
    return torch.from_numpy(stacked.astype(np.float32)).to(classifier.device)


def softmax(values: np.ndarray) -> np.ndarray:
    """Probabilities of logits (…, classes) over the last axis, float64."""
    exp = np.exp(values - values.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def prediction_set(p: np.ndarray, quantiles: np.ndarray) -> tuple[int, ...]:
    """The classes k with 1 - p_k <= q_k, ascending; may be empty.

    Quantiles differ between classes. If the only admitted class is not the most probable one, the most probable class
    is added (coverage can only grow), and the level abstains.

    Args:
        p: (classes,), sum 1.
        quantiles: (classes,), the q_k of the card.
    """
    admitted = set(np.flatnonzero(1 - p <= quantiles).tolist())
    return tuple(sorted(admitted | {int(np.argmax(p))})) if admitted else ()


def _grade(level: str, p: np.ndarray, slice_p: np.ndarray, quantiles: np.ndarray) -> Grade:
    classes = prediction_set(p, quantiles)
    mc = int(np.argmax(p)) if len(classes) == 1 else None
    reason = None if mc is not None else AbstainedReason.SEVERAL_TYPES if classes else AbstainedReason.NO_TYPE
    return Grade(level, tuple(p.tolist()), classes, mc, mc is None, tuple(map(tuple, slice_p.tolist())), reason)


def _calibration(card: dict[str, Any], alpha: float) -> tuple[float, np.ndarray]:
    """The temperature, and the quantiles q_k (classes,). Raises WeightsError."""
    try:
        temperature = float(card["calibration"]["temperature"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the classifier's card has no usable `calibration`: {error!r}") from error
    if not temperature > 0:
        raise WeightsError("the classifier's card needs a positive `temperature` in its `calibration`")
    return temperature, quantiles_at(card["calibration"], alpha)
