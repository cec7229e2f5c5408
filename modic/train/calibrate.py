"""From logits of held-out discs to a temperature and conformal quantiles."""

import numpy as np

from modic.classify import CLASSES, softmax


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature (0.25-8) with the lowest class-balanced log loss (Guo 2017), by search on a fine grid."""
    candidates = np.exp(np.linspace(np.log(0.25), np.log(8), 200))
    return float(candidates[np.argmin([balanced_log_loss(logits / t, labels) for t in candidates])])


def balanced_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes present of the mean log loss within the class."""
    losses = -np.log(np.clip(softmax(logits)[np.arange(len(labels)), labels], 1e-12, 1))
    return float(np.mean([losses[labels == k].mean() for k in np.unique(labels)]))


def conformal_quantiles(p: np.ndarray, labels: np.ndarray, *, alpha: float) -> list[float]:
    """For each class the quantile of 1 - p_k over its n discs at level ceil((n + 1)(1 - alpha)) / n.

    A class with too few discs for this level gets 1, so it is in every prediction set.
    """
    quantiles = []
    for k in range(CLASSES):
        scores = np.sort(1 - p[labels == k, k])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        quantiles.append(float(scores[rank - 1]) if rank <= len(scores) else 1.0)
    return quantiles
