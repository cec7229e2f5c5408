"""How good grades and levels are: sensitivities, agreement, calibration, conformal sets, naming of levels.

A metric has a name of two parts: what is measured, and of which class or level. It is NaN if the given discs do not
suffice, such as the sensitivity for a class that does not occur. Intervals come from drawing patients again with all
their discs (`intervals`), since discs of one patient are alike.

Arrays: `p` float (n, classes), probabilities; `labels` int (n,), true classes; `weights` float (n,), how many discs of
a cohort each one stands for, if discs were drawn unevenly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modic.grades import CLASSES, GRADES
from modic.grading.classify import prediction_set
from modic.records import LEVELS

Key = tuple[str, str]
Numbers = dict[Key, float]
DRAWS = 500
BINS = 10
"""Bins of equal width that probabilities are sorted into for calibration."""

NAMED = 0.5
"""Smallest overlap (IoU) of a box with the disc of its name at which the level counts as named right."""

NAN = float("nan")
SPECIFICITY = 0.85
MC0_VS_MC2, MC1_VS_MC0 = "MC0 vs MC2", "MC1 vs MC0"
OEDEMA_FOUND: Key = (f"sensitivity at a specificity of {SPECIFICITY:.0%}", MC1_VS_MC0)


def mc(k: int) -> str:
    """Name of a class."""
    return GRADES[k]


def grade_metrics(p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """`agreement_metrics` of the most probable class, and areas under ROC curves of the probabilities."""
    numbers = agreement_metrics(labels, p.argmax(1), weights)
    for k in range(CLASSES):
        numbers["ROC AUC", f"{mc(k)} vs rest"] = auc(p[:, k], labels == k, weights)
    either = labels != 1
    of_either = None if weights is None else weights[either]
    numbers["ROC AUC", MC0_VS_MC2] = auc(fat_share(p)[either], labels[either] == 2, of_either)
    return numbers


def agreement_metrics(labels: np.ndarray, graded: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """Sensitivity, specificity, balanced accuracy, F1 and κ of grades, int (n,).

    F1 of a class is 2 TP / (2 TP + FP + FN). Balanced accuracy and macro F1 are means over the classes that occur among
    `labels`; weighted F1 weighs these classes by how often they occur.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    classes = list(range(CLASSES))
    table = confusion_matrix(labels, graded, labels=classes, sample_weight=weights)  # rows: true
    of_class, right, total = table.sum(1), np.diag(table), table.sum()
    present = np.flatnonzero(of_class)
    f1 = f1_score(labels, graded, labels=classes, average=None, zero_division=0, sample_weight=weights)
    numbers: Numbers = {}
    for k in classes:
        others = total - of_class[k]
        numbers["sensitivity", mc(k)] = _ratio(right[k], of_class[k])
        numbers["specificity", mc(k)] = _ratio(others - (table[:, k].sum() - right[k]), others)
        numbers["F1", mc(k)] = float(f1[k]) if of_class[k] else NAN
    numbers["balanced accuracy", "all"] = float((right[present] / of_class[present]).mean()) if len(present) else NAN
    numbers["F1", "macro"] = float(f1[present].mean()) if len(present) else NAN
    numbers["F1", "weighted"] = _ratio((f1 * of_class).sum(), total)
    return numbers | kappas(labels, graded, weights)


def kappas(labels: np.ndarray, graded: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """Cohen's κ, unweighted and with linear and quadratic weights of the distance between grades."""
    return {
        ("Cohen's kappa", "all"): kappa(labels, graded, sample=weights),
        ("Cohen's kappa", "linear weights"): kappa(labels, graded, weights="linear", sample=weights),
        ("Cohen's kappa", "quadratic weights"): kappa(labels, graded, weights="quadratic", sample=weights),
    }


def fat_share(p: np.ndarray) -> np.ndarray:
    """p2 / (p0 + p2), (n,): the score that separates discs of type 0 and 2."""
    return p[:, 2] / np.maximum(p[:, 0] + p[:, 2], 1e-12)


def auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve of `scores` (n,) for `positive` discs (bool, n); NaN if all are or none is positive."""
    from sklearn.metrics import roc_auc_score

    both = 0 < positive.sum() < len(positive)
    return float(roc_auc_score(positive, scores, sample_weight=weights)) if both else NAN


def oedema_found(p: np.ndarray, labels: np.ndarray) -> Numbers:
    """Sensitivity for MC1 among discs of type 0 and 1, at a specificity of `SPECIFICITY` or more.

    The score is p1 / (p0 + p1). NaN if either type does not occur.
    """
    from sklearn.metrics import roc_curve

    either = labels != 2
    oedema = labels[either] == 1
    if not 0 < oedema.sum() < len(oedema):
        return {OEDEMA_FOUND: NAN}
    share = p[either, 1] / np.maximum(p[either, 0] + p[either, 1], 1e-12)
    false_positive, sensitivity, _ = roc_curve(oedema, share)
    return {OEDEMA_FOUND: float(sensitivity[false_positive <= 1 - SPECIFICITY + 1e-9].max())}


def kappa(
    labels: np.ndarray, graded: np.ndarray, *, weights: str | None = None, sample: np.ndarray | None = None,
    classes: int = CLASSES,
) -> float:  # fmt: skip
    """Cohen's κ of `classes` (0, 1, …); NaN if both give one and the same class to every disc. `sample`: weights of the
    discs."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(labels, graded)) < 2:
        return NAN
    return float(cohen_kappa_score(labels, graded, labels=list(range(classes)), weights=weights, sample_weight=sample))


def probability_metrics(p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """How well probabilities agree with what happens: expected calibration error and Brier score.

    `all`: of the most probable class (calibration error), or the sum of squares over the classes (Brier, 0-2). A class:
    of its own probability against being it or not. `classes weighted equally`: as if the types were equally frequent,
    which is what the probabilities assume.
    """
    w = np.ones(len(labels)) if weights is None else weights
    hit, truth = p.argmax(1) == labels, np.eye(CLASSES)[labels]
    counts = np.bincount(labels, weights=w, minlength=CLASSES)
    squares = ((p - truth) ** 2).sum(1)
    numbers: Numbers = {}
    for name, weighting in (("all", w), ("classes weighted equally", alike(labels, w))):
        numbers["calibration error", name] = calibration_error(p.max(1), hit, weighting)
        numbers["Brier", name] = float(np.average(squares, weights=weighting))
    for k in np.flatnonzero(counts).tolist():
        numbers["calibration error", mc(k)] = calibration_error(p[:, k], labels == k, w)
        numbers["Brier", mc(k)] = float(np.average((p[:, k] - truth[:, k]) ** 2, weights=w))
    return numbers


def alike(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,): the weights, scaled so that each class that occurs has the sum 1, as if classes were equally frequent."""
    return weights / np.bincount(labels, weights=weights, minlength=CLASSES)[labels]


def calibration_error(predicted: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error (Guo et al., ICML 2017): mean over `BINS` bins of |share - mean probability|.

    `predicted`: float (n,), 0-1, probabilities; `happened`: bool or 0-1 (n,).
    """
    rows = reliability(predicted, happened, weights)
    total = sum(row[2] for row in rows)
    return float(sum(weight * abs(share - mean) for mean, share, weight in rows) / total)


def reliability(
    predicted: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None
) -> list[tuple[float, float, float]]:
    """Of each bin with a disc: mean predicted probability, share that happened, weight (number of discs)."""
    weights = np.ones(len(predicted)) if weights is None else weights
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    rows = []
    for number in np.unique(bins):
        inside = bins == number
        mean, share = (float(np.average(v[inside], weights=weights[inside])) for v in (predicted, happened))
        rows.append((mean, share, float(weights[inside].sum())))
    return rows


def set_metrics(p: np.ndarray, labels: np.ndarray, quantiles: Sequence[float]) -> Numbers:
    """Of conformal prediction sets: how often they hold the true class (coverage), how often they are not a single
    class (abstained), and how often the grade is right otherwise. `quantiles`: one a class, from the classifier's card.
    """
    sets = [prediction_set(row, np.asarray(quantiles)) for row in p]
    held = np.array([label in classes for label, classes in zip(labels, sets, strict=True)])
    clear = np.array([len(classes) == 1 for classes in sets])
    right = p.argmax(1) == labels
    numbers: Numbers = {("accuracy where not abstained", "all"): float(right[clear].mean()) if clear.any() else NAN}
    for name, of in (("all", labels >= 0), *((mc(k), labels == k) for k in range(CLASSES))):
        numbers["coverage", name] = float(held[of].mean()) if of.any() else NAN
        numbers["abstained", name] = float(1 - clear[of].mean()) if of.any() else NAN
    return numbers


def counted(key: Key, labels: np.ndarray) -> np.ndarray:
    """Which discs (bool mask) a metric is about."""
    what, which = key
    if which in (MC0_VS_MC2, MC1_VS_MC0):
        return labels != (1 if which == MC0_VS_MC2 else 2)
    if which in GRADES and what in ("sensitivity", "coverage", "abstained"):
        return labels == GRADES.index(which)
    return labels != GRADES.index(which) if what == "specificity" else labels >= 0


def level_metrics(level: np.ndarray, overlap: np.ndarray, score: np.ndarray) -> Numbers:
    """The paper's Table 1 and the share of levels named right, by level and over all.

    Args:
        level: int (discs,), index in LEVELS of every disc in the image.
        overlap: float (discs,), IoU of the box found under its name; 0 if none was found.
        score: float (discs,), the detector's score of that box; 0 if none was found.

    IoU and confidence are means over the boxes found (IoU > 0); named right is a share of all discs.
    """
    numbers: Numbers = {}
    has_box = overlap > 0
    for name, of in (*((name, level == i) for i, name in enumerate(LEVELS)), ("all", level >= 0)):
        boxed = of & has_box
        numbers["IoU", name] = float(overlap[boxed].mean()) if boxed.any() else NAN
        numbers["confidence", name] = float(score[boxed].mean()) if boxed.any() else NAN
        numbers["named right", name] = float((overlap[of] >= NAMED).mean()) if of.any() else NAN
    return numbers


def numbering_metrics(right: np.ndarray, flagged: np.ndarray, unit: str) -> Numbers:
    """Shares of slices or patients (`unit`): all names right, flagged `uncertain`, and wrong ones flagged or not.

    `right`, `flagged`: bool (n,).
    """
    return {
        ("all names right", unit): float(right.mean()),
        ("flagged uncertain", unit): float(flagged.mean()),
        ("wrong ones flagged", unit): float(flagged[~right].mean()) if (~right).any() else NAN,
        ("wrong and not flagged", unit): float((~right & ~flagged).mean()),
    }


def intervals(
    statistic: Callable[[np.ndarray], dict[Any, float]],
    patients: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[Any, tuple[float, float]]:
    """95 % interval of each number of `statistic` if patients, with all their rows, were drawn again.

    Args:
        statistic: from indices of rows (with repeats) to numbers.
        patients: whose each row is.

    A draw in which a number is NaN does not count for it; a number that is NaN in all draws has no interval. The same
    seed gives the same intervals.
    """
    rng, names = np.random.default_rng(seed), np.asarray(patients)
    rows = [np.flatnonzero(names == name) for name in np.unique(names)]
    values: dict[Any, list[float]] = {}
    for _ in range(draws):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        for key, value in statistic(drawn).items():
            values.setdefault(key, []).append(value)
    kept = {key: [v for v in many if np.isfinite(v)] for key, many in values.items()}
    return {key: (float(np.percentile(v, 2.5)), float(np.percentile(v, 97.5))) for key, v in kept.items() if v}


def measure(p: np.ndarray, labels: np.ndarray, quantiles: Sequence[float]) -> dict[str, Any]:
    """The results in a classifier's card, rounded: sensitivities, balanced accuracy, AUC, abstention, coverage."""
    from sklearn.metrics import confusion_matrix

    numbers = grade_metrics(p, labels) | set_metrics(p, labels, quantiles)
    table = confusion_matrix(labels, p.argmax(1), labels=list(range(CLASSES)))
    present = [k for k in range(CLASSES) if (labels == k).any()]
    return {
        "discs": len(labels),
        "confusion_rows_true_columns_graded": table.tolist(),
        "sensitivity": {f"mc{k}": round(numbers["sensitivity", mc(k)], 3) for k in present},
        "balanced_accuracy": rounded(numbers["balanced accuracy", "all"]),
        "auc_mc0_vs_mc2": rounded(numbers["ROC AUC", MC0_VS_MC2]),
        "abstained": rounded(numbers["abstained", "all"]),
        "accuracy_where_not_abstained": rounded(numbers["accuracy where not abstained", "all"]),
        "true_class_in_prediction_set": rounded(numbers["coverage", "all"]),
    }


def auc_0_2(p: np.ndarray, labels: np.ndarray) -> float | None:
    """ROC AUC of p2 / (p0 + p2) over discs of type 0 and 2, rounded; None if either type does not occur."""
    either = labels != 1
    return rounded(auc(fat_share(p)[either], labels[either] == 2))


def auc_interval(p: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> list[float] | None:
    """95 % interval of `auc_0_2`, by patient, rounded; None if it has no value."""
    share = fat_share(p)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        either = rows[labels[rows] != 1]
        return {"auc": auc(share[either], labels[either] == 2)}

    ends = intervals(statistic, patients).get("auc")
    return [round(end, 3) for end in ends] if ends else None


def rounded(value: float, places: int = 3) -> float | None:
    """`value` with so many decimals; None for NaN."""
    return round(float(value), places) if np.isfinite(value) else None


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else NAN
