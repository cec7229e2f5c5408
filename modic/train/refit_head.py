"""Fit types 0 and 2 once more with the trunk frozen: a logistic regression on the features of unpainted discs.

There are few real discs of types 0 and 2 (some 500), while painted and synthetic ones are many and easier, and
augmented views blur the endplates. Gradient descent on all of them separates types 0 and 2 a little worse on new
patients than the convex fit on real discs: cross-validation of 87 SPIDER patients gave an AUC of 0.78 without this step
and 0.79 with it, a balanced accuracy of 0.71 and 0.73 (with the features of an earlier network: three rows of the map
and the mean of a deeper one).

`STRENGTH` was chosen on the same folds with the grid of modic/models/slice_net.py: AUC 0.810, 0.813, 0.809, 0.805 for
0.0005, 0.001, 0.002, 0.004, against at best 0.806 with rows instead of the grid and 0.799 with the deeper map added.
The share of the phantom was chosen there too: real discs fare alike with 0 to 0.35, but without the phantom none of its
type 2 is found.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from modic.train.augment.regions import Example

if TYPE_CHECKING:
    import torch

    from modic.train.options import ClassifierTraining

PHANTOM = 0.2  # share of all weight that goes to synthetic discs
SEEDS = (2, 3)  # of two views of each disc; predictions out of fold take 1
STRENGTH = 0.001  # inverse of the L2 penalty for all discs together, in features of unit variance
FEWEST = 30  # discs of a type; with fewer the head stays as it was trained


def refit_head(net: "torch.nn.Module", examples: list[Example], options: "ClassifierTraining") -> bool:
    """Replace the difference between the last layer's rows of types 0 and 2; their mean, and type 1, stay.

    Args:
        net: of modic.models.slice_net, on its device; changed in place, left in evaluation mode.
        examples: of training patients; those with a painted lesion are ignored.

    Returns:
        Whether there were enough real discs.
    """
    used = [example for example in examples if not example.painted and example.label in (0, 2)]
    fat, real = np.array([e.label == 2 for e in used], bool), np.array([e.real for e in used], bool)
    if min((fat & real).sum(), (~fat & real).sum()) < FEWEST:
        return False
    weights = np.tile(source_weights(fat, real) / len(SEEDS), len(SEEDS))
    features = np.concatenate([_features(net, used, options, seed) for seed in SEEDS])
    replace_difference(net, *logistic(features, np.tile(fat, len(SEEDS)), weights, STRENGTH))
    return True


def logistic(features: np.ndarray, fat: np.ndarray, weights: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weights and bias of a logistic regression of `fat` (bool, n) on features (n, k)."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=strength, max_iter=1000).fit(features, fat, sample_weight=weights)
    return regression.coef_[0], float(regression.intercept_[0])


def replace_difference(net: "torch.nn.Module", weights: np.ndarray, bias: float) -> None:
    """Put a regression of type 2 against 0 into the last layer, in place; the mean of both rows, and type 1, stay."""
    import torch

    head = net.get_submodule("head")
    with torch.no_grad():
        for parameter, fitted in ((head.get_parameter("weight"), weights), (head.get_parameter("bias"), bias)):
            middle, half = (parameter[0] + parameter[2]) / 2, torch.as_tensor(fitted / 2).to(parameter)
            parameter[0], parameter[2] = middle - half, middle + half


def source_weights(fat: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Weight of each disc (n,): both types count alike among real and among synthetic discs, the latter `PHANTOM`.

    The weights of the real discs sum up to their number. `real`: all if there are synthetic discs alone.
    """
    weights = np.zeros(len(fat))
    for source, total in ((real, real.sum()), (~real, real.sum() * PHANTOM / (1 - PHANTOM))):
        for of_type in (source & fat, source & ~fat):
            weights[of_type] = total / 2 / max(of_type.sum(), 1)
    return weights


def _features(net: Any, examples: list[Example], options: "ClassifierTraining", seed: int) -> np.ndarray:
    """What the last layer reads of measuring views, float64 (n, features)."""
    import torch

    from modic.train.inference import measuring_batches

    net.eval()
    rows = []
    for batch in measuring_batches(examples, options, seed=seed):
        with torch.inference_mode():
            rows.append(net.features(net.slice_maps(batch), [view.shape[1] for view in batch]).double().cpu().numpy())
    return np.concatenate(rows)
