"""Statistics of grades and of levels: arrays in, numbers out.

A metric is named by a pair (what, of which class or level). One that has no value on the given discs, such as the
sensitivity for a class of which there is none, is NaN. Intervals come from drawing patients again, with all their discs
(`intervals`), since discs of one patient are alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modic.grades import CLASSES
from modic.grading.classify import prediction_set
from modic.records import LEVELS

Key = tuple[str, str]
Numbers = dict[Key, float]
DRAWS = 500
BINS = 10
NAMED = 0.5  # a level is named right where the box of its name overlaps the disc of its name this much (IoU)
NAN = float("nan")
SPECIFICITY = 0.85
OEDEMA_FOUND: Key = (f"sensitivity at a specificity of {SPECIFICITY:.0%}", "MC1 vs MC0")


def mc(k: int) -> str:
    """Name of a class."""
    return f"MC{k}"


def grade_metrics(p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """How the most probable class and its ranks do; p float (n, 3), labels int (n,) of 0-2.

    Balanced accuracy and macro F1 are means over the classes that occur among `labels`; weighted F1 weighs these by
    how often they occur. `weights`: how many discs of a cohort each stands for, where they were drawn unevenly.
    """
    numbers = agreement_metrics(labels, p.argmax(1), weights)
    for k in range(CLASSES):
        numbers["ROC AUC", f"{mc(k)} vs rest"] = auc(p[:, k], labels == k, weights)
    either = labels != 1
    some = None if weights is None else weights[either]
    numbers["ROC AUC", "MC0 vs MC2"] = auc(fat_share(p)[either], labels[either] == 2, some)
    return numbers


def agreement_metrics(labels: np.ndarray, graded: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """Of grades alone, int (n,) of 0-2: sensitivity, specificity, balanced accuracy, F1 and κ.

    F1 of a class is 2 TP / (2 TP + FP + FN); macro and weighted as in `grade_metrics`.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    classes = list(range(CLASSES))
    table = confusion_matrix(labels, graded, labels=classes, sample_weight=weights)  # rows: true
    of_class, right, everything = table.sum(1), np.diag(table), table.sum()
    present = np.flatnonzero(of_class)
    f1 = f1_score(labels, graded, labels=classes, average=None, zero_division=0, sample_weight=weights)
    numbers: Numbers = {}
    for k in classes:
        others = everything - of_class[k]
        numbers["sensitivity", mc(k)] = _ratio(right[k], of_class[k])
        numbers["specificity", mc(k)] = _ratio(others - (table[:, k].sum() - right[k]), others)
        numbers["F1", mc(k)] = float(f1[k]) if of_class[k] else NAN
    numbers["balanced accuracy", "all"] = float((right[present] / of_class[present]).mean()) if len(present) else NAN
    numbers["F1", "macro"] = float(f1[present].mean()) if len(present) else NAN
    numbers["F1", "weighted"] = _ratio((f1 * of_class).sum(), everything)
    return numbers | kappas(labels, graded, weights)


def kappas(labels: np.ndarray, graded: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """Cohen's κ, plain and with linear and quadratic weights of the distance between grades."""
    return {
        ("Cohen's kappa", "all"): kappa(labels, graded, sample=weights),
        ("Cohen's kappa", "linear weights"): kappa(labels, graded, weights="linear", sample=weights),
        ("Cohen's kappa", "quadratic weights"): kappa(labels, graded, weights="quadratic", sample=weights),
    }


def fat_share(p: np.ndarray) -> np.ndarray:
    """p2 / (p0 + p2): what orders discs of type 0 and 2."""
    return p[:, 2] / np.maximum(p[:, 0] + p[:, 2], 1e-12)


def auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve; NaN where one of both sides is empty."""
    from sklearn.metrics import roc_auc_score

    both = 0 < positive.sum() < len(positive)
    return float(roc_auc_score(positive, scores, sample_weight=weights)) if both else NAN


def oedema_found(p: np.ndarray, labels: np.ndarray) -> Numbers:
    """Sensitivity for MC1 among discs of type 0 and 1, where `SPECIFICITY` or more of those of type 0 are told from it.

    Ordered by p1 / (p0 + p1); NaN where either type is missing.
    """
    from sklearn.metrics import roc_curve

    either = labels != 2
    oedema = labels[either] == 1
    if not 0 < oedema.sum() < len(oedema):
        return {OEDEMA_FOUND: NAN}
    share = p[either, 1] / np.maximum(p[either, 0] + p[either, 1], 1e-12)
    false, found, _ = roc_curve(oedema, share)
    return {OEDEMA_FOUND: float(found[false <= 1 - SPECIFICITY + 1e-9].max())}


def kappa(
    labels: np.ndarray, graded: np.ndarray, *, weights: str | None = None, sample: np.ndarray | None = None
) -> float:
    """Cohen's κ; NaN where both only ever say one class."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(labels, graded)) < 2:
        return NAN
    return float(cohen_kappa_score(labels, graded, labels=list(range(CLASSES)), weights=weights, sample_weight=sample))


def probability_metrics(p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Numbers:
    """Whether probabilities are what they say: expected calibration error and Brier score.

    `all` looks at the most probable class (calibration error) or sums the three squares (Brier, 0-2); a class at its
    own probability against being it. `classes weighted equally`: as if the types were equally frequent, which is what
    the probabilities assume. `weights`: as in `grade_metrics`.
    """
    w = np.ones(len(labels)) if weights is None else weights
    hit, truth = p.argmax(1) == labels, np.eye(CLASSES)[labels]
    counts = np.bincount(labels, weights=w, minlength=CLASSES)
    squares = ((p - truth) ** 2).sum(1)
    numbers: Numbers = {}
    for name, some in (("all", w), ("classes weighted equally", w / counts[labels])):
        numbers["calibration error", name] = calibration_error(p.max(1), hit, some)
        numbers["Brier", name] = float(np.average(squares, weights=some))
    for k in np.flatnonzero(counts).tolist():
        numbers["calibration error", mc(k)] = calibration_error(p[:, k], labels == k, w)
        numbers["Brier", mc(k)] = float(np.average((p[:, k] - truth[:, k]) ** 2, weights=w))
    return numbers


def calibration_error(said: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error (Guo 2017): mean over `BINS` bins of equal width of |share - mean probability|."""
    rows = reliability(said, happened, weights)
    total = sum(row[2] for row in rows)
    return float(sum(weight * abs(share - mean) for mean, share, weight in rows) / total)


def reliability(
    said: np.ndarray, happened: np.ndarray, weights: np.ndarray | None = None
) -> list[tuple[float, float, float]]:
    """Per bin with any disc: mean probability said, share in which it happened, weight (number of discs)."""
    weights = np.ones(len(said)) if weights is None else weights
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    rows = []
    for one in np.unique(bins):
        inside = bins == one
        mean, share = (float(np.average(v[inside], weights=weights[inside])) for v in (said, happened))
        rows.append((mean, share, float(weights[inside].sum())))
    return rows


def set_metrics(p: np.ndarray, labels: np.ndarray, quantiles: Sequence[float]) -> Numbers:
    """Conformal sets: how often they hold the true class (coverage), how often they are not one class (abstained), and
    how often the grade is right where they are."""
    sets = [prediction_set(row, np.asarray(quantiles)) for row in p]
    held = np.array([label in one for label, one in zip(labels, sets, strict=True)])
    clear = np.array([len(one) == 1 for one in sets])
    right = p.argmax(1) == labels
    numbers: Numbers = {("accuracy where not abstained", "all"): float(right[clear].mean()) if clear.any() else NAN}
    for name, of in (("all", labels >= 0), *((mc(k), labels == k) for k in range(CLASSES))):
        numbers["coverage", name] = float(held[of].mean()) if of.any() else NAN
        numbers["abstained", name] = float(1 - clear[of].mean()) if of.any() else NAN
    return numbers


def counted(key: Key, labels: np.ndarray) -> np.ndarray:
    """Which discs (bool mask) a metric is about."""
    what, which = key
    if which == "MC0 vs MC2":
        return labels != 1
    if which == "MC1 vs MC0":
        return labels != 2
    if which.startswith("MC") and what in ("sensitivity", "coverage", "abstained"):
        return labels == int(which[2])
    return labels != int(which[2]) if what == "specificity" else labels >= 0


def level_metrics(level: np.ndarray, overlap: np.ndarray, score: np.ndarray) -> Numbers:
    """The paper's Table 1 and the naming rate, by level and over all.

    Args:
        level: int (boxes,), index in LEVELS of every disc that is there.
        overlap: IoU of the box found under its name, 0 where there is none.
        score: the detector's score of that box, 0 where there is none.

    IoU and confidence are means over the boxes found (IoU > 0); named right is a share of all discs.
    """
    numbers: Numbers = {}
    found = overlap > 0
    for name, of in (*((name, level == i) for i, name in enumerate(LEVELS)), ("all", level >= 0)):
        seen = of & found
        numbers["IoU", name] = float(overlap[seen].mean()) if seen.any() else NAN
        numbers["confidence", name] = float(score[seen].mean()) if seen.any() else NAN
        numbers["named right", name] = float((overlap[of] >= NAMED).mean()) if of.any() else NAN
    return numbers


def numbering_metrics(right: np.ndarray, flagged: np.ndarray, unit: str) -> Numbers:
    """Of slices or patients (`unit`): all names right, flagged `uncertain`, and whether the wrong ones were flagged."""
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

    `statistic` gets indices of rows (with repeats). Draws in which a number is NaN do not count for it; it lacks an
    interval where that is all of them. The same seed gives the same intervals.
    """
    rng, names = np.random.default_rng(seed), np.asarray(patients)
    rows = [np.flatnonzero(names == one) for one in np.unique(names)]
    values: dict[Any, list[float]] = {}
    for _ in range(draws):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        for key, value in statistic(drawn).items():
            values.setdefault(key, []).append(value)
    kept = {key: [v for v in many if np.isfinite(v)] for key, many in values.items()}
    return {key: (float(np.percentile(v, 2.5)), float(np.percentile(v, 97.5))) for key, v in kept.items() if v}


def measure(p: np.ndarray, labels: np.ndarray, quantiles: Sequence[float]) -> dict[str, Any]:
    """The numbers of a card, rounded: sensitivities, balanced accuracy, AUC MC0 against MC2, abstention, coverage."""
    from sklearn.metrics import confusion_matrix

    numbers = grade_metrics(p, labels) | set_metrics(p, labels, quantiles)
    table = confusion_matrix(labels, p.argmax(1), labels=list(range(CLASSES)))
    present = [k for k in range(CLASSES) if (labels == k).any()]
    return {
        "discs": len(labels),
        "confusion_rows_true_columns_graded": table.tolist(),
        "sensitivity": {f"mc{k}": round(numbers["sensitivity", mc(k)], 3) for k in present},
        "balanced_accuracy": rounded(numbers["balanced accuracy", "all"]),
        "auc_mc0_vs_mc2": rounded(numbers["ROC AUC", "MC0 vs MC2"]),
        "abstained": rounded(numbers["abstained", "all"]),
        "accuracy_where_not_abstained": rounded(numbers["accuracy where not abstained", "all"]),
        "true_class_in_prediction_set": rounded(numbers["coverage", "all"]),
    }


def auc_0_2(p: np.ndarray, labels: np.ndarray) -> float | None:
    """ROC AUC of p2 / (p0 + p2) over discs of type 0 and 2, rounded; None where one is missing."""
    either = labels != 1
    return rounded(auc(fat_share(p)[either], labels[either] == 2))


def auc_interval(p: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> list[float] | None:
    """95 % interval of `auc_0_2`, by patient, rounded; None where it has no value."""
    share = fat_share(p)

    def statistic(rows: np.ndarray) -> dict[str, float]:
        some = rows[labels[rows] != 1]
        return {"auc": auc(share[some], labels[some] == 2)}

    found = intervals(statistic, patients).get("auc")
    return [round(v, 3) for v in found] if found else None


def rounded(value: float, places: int = 3) -> float | None:
    """Three decimals; None for NaN."""
    return round(float(value), places) if np.isfinite(value) else None


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else NAN
