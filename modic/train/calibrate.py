"""From logits of held-out discs to a temperature, conformal quantiles, and the numbers of a card."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from modic.classify import CLASSES, prediction_set, softmax


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


def measure(p: np.ndarray, labels: np.ndarray, quantiles: Sequence[float]) -> dict[str, Any]:
    """Counts, sensitivities, balanced accuracy, AUC of MC0 against MC2, abstention and coverage of one group."""
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (labels, p.argmax(1)), 1)
    sets = [prediction_set(row, np.asarray(quantiles)) for row in p]
    clear = np.array([len(s) == 1 for s in sets])
    right = p.argmax(1) == labels
    present = [k for k in range(CLASSES) if (labels == k).any()]
    sensitivity = {f"mc{k}": _rounded(confusion[k, k] / confusion[k].sum()) for k in present}
    return {
        "discs": len(labels),
        "confusion_rows_true_columns_graded": confusion.tolist(),
        "sensitivity": sensitivity,
        "balanced_accuracy": _rounded(np.mean([confusion[k, k] / confusion[k].sum() for k in present])),
        "auc_mc0_vs_mc2": auc_0_2(p, labels),
        "abstained": _rounded(1 - clear.mean()),
        "accuracy_where_not_abstained": _rounded(right[clear].mean()) if clear.any() else None,
        "true_class_in_prediction_set": _rounded(np.mean([label in s for label, s in zip(labels, sets, strict=True)])),
    }


def auc_0_2(p: np.ndarray, labels: np.ndarray) -> float | None:
    """ROC AUC of p2 / (p0 + p2) over discs of type 0 and 2; None where one is missing."""
    either = labels != 1
    if len(np.unique(labels[either])) < 2:
        return None
    ratio = p[either, 2] / np.maximum(p[either, 0] + p[either, 2], 1e-12)
    fat = labels[either] == 2
    above = rankdata(ratio)[fat].sum() - fat.sum() * (fat.sum() + 1) / 2  # Mann-Whitney U
    return _rounded(above / (fat.sum() * (~fat).sum()))


def auc_interval(p: np.ndarray, labels: np.ndarray, patients: Sequence[str], *, draws: int = 500) -> list[float] | None:
    """95 % interval of `auc_0_2` if patients, with all their discs, were drawn again; None where it has no value."""
    rng, names = np.random.default_rng(0), np.array(patients)
    discs = [np.flatnonzero(names == one) for one in np.unique(names)]
    values = []
    for _ in range(draws):
        drawn = np.concatenate([discs[i] for i in rng.integers(len(discs), size=len(discs))])
        value = auc_0_2(p[drawn], labels[drawn])
        values += [] if value is None else [value]
    return [_rounded(v) for v in np.percentile(values, (2.5, 97.5))] if values else None


def _rounded(value: Any) -> float:
    return round(float(value), 3)
