"""From logits of held-out discs to a temperature and conformal quantiles."""

import numpy as np
from scipy.optimize import minimize

from modic.classify import CLASSES, softmax


def fit_scaling(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature (0.25-8) and a shift of the logits (3,) with the lowest class-balanced log loss of
    (logits + shift) / temperature (bias-corrected temperature scaling, Alexandari 2020).

    The shift undoes what training with unequal sources did to the balance between classes; a class without examples
    gets none.
    """
    present = np.unique(labels)
    free = present[1:]

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        shift = np.zeros(CLASSES)
        shift[free] = x[1:]
        return float(np.exp(np.clip(x[0], np.log(0.25), np.log(8)))), shift

    def loss(x: np.ndarray) -> float:
        temperature, shift = scaled(x)
        return balanced_log_loss((logits + shift) / temperature, labels)

    found = minimize(loss, np.zeros(1 + len(free)), method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-4})
    return scaled(found.x)


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
