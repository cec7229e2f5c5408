"""Regions → grades: P(MC0), P(MC1), P(MC2) of each level, calibrated, and a grade only where it is clear.

The network's logits are divided by a temperature (Guo 2017) and turned into probabilities. Class k is in the
prediction set where 1 - p_k <= q_k, with q_k the quantile of 1 - p_k over calibration discs whose true class is k
(class-conditional split conformal prediction, Vovk 2012). Temperature and q are in the card, under `calibration`:

| prediction set     | outcome                         |
|--------------------|---------------------------------|
| one class          | `mc` is the arg max of p        |
| none, two or three | abstained, `mc` is None         |
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import WeightsError
from modic.records import Grade, Region
from modic.weights import Model

if TYPE_CHECKING:
    import torch

CLASSES = 3


def grade_regions(regions: list[Region], *, classifier: Model) -> list[Grade]:
    """Grade normalized regions of one study, in their order, in one batch. Same input and threads: same output.

    Raises WeightsError where the card's calibration is missing or malformed.
    """
    temperature, quantiles = _calibration(classifier.card)
    if not regions:
        return []
    p = softmax(logits(regions, classifier) / temperature)
    return [_grade(region.level, row, quantiles) for region, row in zip(regions, p, strict=True)]


def logits(regions: list[Region], classifier: Model) -> np.ndarray:
    """float64 (regions, 3) of a network in evaluation mode."""
    import torch

    with torch.inference_mode():
        return classifier.net(network_input(regions).to(classifier.device)).double().cpu().numpy()


def network_input(regions: list[Region]) -> "torch.Tensor":
    """float32 (regions, 2, slices, size, size): T1, then T2."""
    import torch

    return torch.from_numpy(np.stack([np.stack([region.t1, region.t2]) for region in regions]).astype(np.float32))


def softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis, float64."""
    exp = np.exp(values - values.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def prediction_set(p: np.ndarray, quantiles: np.ndarray) -> tuple[int, ...]:
    """Classes whose 1 - p_k does not exceed q_k, ascending; may be empty.

    Quantiles differ between classes, so the only class admitted need not be the most probable one; that one is then
    added (coverage can only grow), which makes the level abstained.
    """
    admitted = set(np.flatnonzero(1 - p <= quantiles).tolist())
    return tuple(sorted(admitted | {int(np.argmax(p))})) if admitted else ()


def _grade(level: str, p: np.ndarray, quantiles: np.ndarray) -> Grade:
    classes = prediction_set(p, quantiles)
    abstained = len(classes) != 1
    p0, p1, p2 = (float(value) for value in p)
    return Grade(level, (p0, p1, p2), classes, None if abstained else int(np.argmax(p)), abstained)


def _calibration(card: dict[str, Any]) -> tuple[float, np.ndarray]:
    try:
        temperature = float(card["calibration"]["temperature"])
        quantiles = np.array(card["calibration"]["conformal_q"], float)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the classifier's card has no usable `calibration`: {error!r}") from error
    if not temperature > 0 or quantiles.shape != (CLASSES,) or not np.isfinite(quantiles).all():
        raise WeightsError("the classifier's card needs a positive `temperature` and three finite `conformal_q`")
    return temperature, quantiles
