"""From logits of held-out discs to a temperature and conformal quantiles."""

import numpy as np
from scipy.optimize import minimize

from modic.grades import CLASSES
from modic.grading.classify import softmax


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


def held_out_coverage(
    logits: np.ndarray, labels: np.ndarray, patients: list[str], *, alpha: float, draws: int = 200
) -> list[float | None]:
    """For each class the share of discs whose prediction set holds it, on patients that calibration did not see.

    Patients are dealt to two halves `draws` times; temperature, shift and quantiles are fitted on one half, coverage
    counted on the other. None for a class that is nowhere.
    """
    names, rng = sorted(set(patients)), np.random.default_rng(0)
    covered, seen = np.zeros(CLASSES), np.zeros(CLASSES)
    for _ in range(draws):
        half = set(rng.permutation(names)[: len(names) // 2].tolist())
        fitted = np.array([patient in half for patient in patients])
        temperature, shift = fit_scaling(logits[fitted], labels[fitted])
        p = softmax((logits + shift) / temperature)
        quantiles = conformal_quantiles(p[fitted], labels[fitted], alpha=alpha)
        for k in range(CLASSES):
            of_class = ~fitted & (labels == k)
            covered[k] += (1 - p[of_class, k] <= quantiles[k]).sum()
            seen[k] += of_class.sum()
    return [float(c / n) if n else None for c, n in zip(covered, seen, strict=True)]
