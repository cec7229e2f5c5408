"""Calibration of a classifier on discs that it was not trained on: temperature, shift and conformal quantiles."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from modic.grades import CLASSES


def fit_scaling(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature (0.25-8) and shift (classes,) that minimise the class-balanced log loss of
    (logits + shift) / temperature: bias-corrected temperature scaling (Alexandari et al., ICML 2020).

    Args:
        logits: float (n, classes).
        labels: int (n,), the class of each disc.

    The shift undoes what training on sources with unequal shares of the classes did to their balance. It is 0 for a
    class without examples.
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

    fitted = minimize(loss, np.zeros(1 + len(free)), method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-4})
    return scaled(fitted.x)


def balanced_log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean log loss within a class, averaged over the classes that occur; logits (n, classes), labels int (n,)."""
    losses = -np.log(np.clip(softmax(logits, axis=-1)[np.arange(len(labels)), labels], 1e-12, 1))
    return float(np.mean([losses[labels == k].mean() for k in np.unique(labels)]))


def conformal_quantiles(p: np.ndarray, labels: np.ndarray, *, alpha: float) -> list[float]:
    """For each class k the quantile of 1 - p_k over its n discs at the level ceil((n + 1)(1 - alpha)) / n.

    Args:
        p: float (n, classes), calibrated probabilities.
        labels: int (n,).

    A class with too few discs for this level gets 1 and is then in every prediction set.
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
    """For each class the share of its discs whose prediction set holds it, on patients not used for calibration.

    `draws` times the patients are split into two halves: temperature, shift and quantiles are fitted on one half,
    coverage is counted on the other. None for a class that does not occur. Logits float (n, classes); labels int (n,);
    `patients` says whose each disc is.
    """
    names, rng = sorted(set(patients)), np.random.default_rng(0)
    covered, counted = np.zeros(CLASSES), np.zeros(CLASSES)
    for _ in range(draws):
        half = set(rng.permutation(names)[: len(names) // 2].tolist())
        fitted = np.array([patient in half for patient in patients])
        temperature, shift = fit_scaling(logits[fitted], labels[fitted])
        p = softmax((logits + shift) / temperature, axis=-1)
        quantiles = conformal_quantiles(p[fitted], labels[fitted], alpha=alpha)
        for k in range(CLASSES):
            of_class = ~fitted & (labels == k)
            covered[k] += (1 - p[of_class, k] <= quantiles[k]).sum()
            counted[k] += of_class.sum()
    return [float(c / n) if n else None for c, n in zip(covered, counted, strict=True)]
