"""Regions → grades: P(MC0), P(MC1), P(MC2) of each level, calibrated, and a grade only where it is clear.

The network's logits are divided by a temperature (Guo 2017) and turned into probabilities. Class k is in the
prediction set where 1 - p_k <= q_k, with q_k the quantile of 1 - p_k over calibration discs whose true class is k
(class-conditional split conformal prediction, Vovk 2012). Temperature and q are in the card, under `calibration`:

| prediction set     | outcome                         |
|--------------------|---------------------------------|
| one class          | `mc` is the arg max of p        |
| none, two or three | abstained, `mc` is None         |

A grade that contradicts the marrow measured beside the endplates is taken back (modic/grading/agreement.py).

Each slice is also graded alone, with the same temperature: where slices disagree, what was seen may lie in one slice
only, or be no more than a vessel or an artefact.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from modic.errors import WeightsError
from modic.models.weights import Model
from modic.records import Grade, Region

if TYPE_CHECKING:
    import torch
from modic.grades import CLASSES, AbstainedReason
from modic.grading.measured import measured_of
from modic.grading.thresholds import quantiles_at


def grade_regions(
    regions: list[Region], *, classifier: Model, alpha: float = 0.0, features: Mapping[str, np.ndarray] | None = None
) -> list[Grade]:
    """Grade normalized regions of one study, in their order, in one batch. Same input and threads: same output.

    `features`: by level, of `modic.grading.marrow_features`, if the card decides by the marrow too; a level without
    them is graded by its images alone. `alpha`: how often a prediction set may miss the true type; 0: as the card says
    (modic/grading/thresholds.py).
    Raises WeightsError where the card's calibration is missing or malformed.
    """
    temperature, quantiles = _calibration(classifier.card, alpha)
    if not regions:
        return []
    together, each = logits(regions, classifier)
    marrow = _marrow(regions, classifier.card, features or {})
    p, alone = softmax((together + marrow) / temperature), softmax((each + marrow[:, None]) / temperature)
    return [
        _grade(one.level, of_all, of_each, quantiles) for one, of_all, of_each in zip(regions, p, alone, strict=True)
    ]


def _marrow(regions: list[Region], card: dict[str, Any], features: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64 (regions, 3): what the measured marrow adds to the logits; of the whole level, also for slices alone."""
    measured = measured_of(card["calibration"])
    if measured is None:
        return np.zeros((len(regions), CLASSES))
    nothing = np.full(len(measured.names), np.nan)
    return measured.logits(np.stack([features.get(region.level, nothing) for region in regions]))


def logits(regions: list[Region], classifier: Model) -> tuple[np.ndarray, np.ndarray]:
    """float64 (regions, 3) of a network in evaluation mode; and of each slice alone, (regions, slices, 3)."""
    import torch

    net: Any = classifier.net
    x = network_input(regions).to(classifier.device)
    n, _, depth, _, _ = x.shape
    with torch.inference_mode():
        if hasattr(net, "look"):  # modic.models.slice_net looks at each slice once
            seen = net.look(x)
            together, alone = net.decide(seen, [depth] * n), net.decide(seen, [1] * (n * depth)).reshape(n, depth, -1)
        else:  # for the dual 3D ResNet, a slice alone is a volume of that slice repeated
            together = net(x)
            alone = torch.stack([net(x[:, :, k : k + 1].expand_as(x)) for k in range(depth)], 1)
    return together.double().cpu().numpy(), alone.double().cpu().numpy()


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


def _grade(level: str, p: np.ndarray, alone: np.ndarray, quantiles: np.ndarray) -> Grade:
    classes = prediction_set(p, quantiles)
    mc = int(np.argmax(p)) if len(classes) == 1 else None
    reason = None if mc is not None else AbstainedReason.SEVERAL_TYPES if classes else AbstainedReason.NO_TYPE
    return Grade(level, _three(p), classes, mc, mc is None, tuple(map(_three, alone)), reason)


def _three(p: np.ndarray) -> tuple[float, float, float]:
    p0, p1, p2 = p.tolist()
    return p0, p1, p2


def _calibration(card: dict[str, Any], alpha: float) -> tuple[float, np.ndarray]:
    try:
        temperature = float(card["calibration"]["temperature"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the classifier's card has no usable `calibration`: {error!r}") from error
    if not temperature > 0:
        raise WeightsError("the classifier's card needs a positive `temperature` in its `calibration`")
    return temperature, quantiles_at(card["calibration"], alpha)
