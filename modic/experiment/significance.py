"""Is one normalization better than another? The usual tests, and tests that account for patients whom folds share.

| function           | unit     | assumption                                                                          |
|--------------------|----------|-------------------------------------------------------------------------------------|
| `t_test`           | folds    | paired t-test: folds are independent, which they are not                            |
| `wilcoxon`         | folds    | signed ranks: the same                                                              |
| `corrected_t_test` | folds    | folds correlate as much as the share of a fold in all patients                      |
| `holm`             |          | adjusts the p-values of all pairs of normalizations at once (Holm 1979)             |
| `bayes`            | folds    | as `corrected_t_test`; with a region of practical equivalence (ROPE)                |
| `paired_bootstrap` | patients | other patients come from the same population; networks stay as they are             |

All compare A with B on the same patients, folds and starting weights. Sources: Nadeau & Bengio, Machine Learning 52
(2003) 239-281; Bouckaert & Frank, PAKDD 2004 (for r × k folds); Corani & Benavoli, Machine Learning 100 (2015) 285-304;
Benavoli et al., J. Mach. Learn. Res. 18 (2017) 77.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from modic.grades import CLASSES, GRADES

ALPHA = 0.05
ROPE = 0.01  # region of practical equivalence: smaller differences of a rate mean nothing in practice
SURE = 0.95  # posterior probability from which a statement is made
DRAWS = 2000  # of patients


def t_test(differences: np.ndarray) -> float:
    """p of the paired t-test over folds (n,), two-sided; 1 if all differences are zero, NaN for fewer than two."""
    return _t(differences, 1 / max(len(differences), 1))


def wilcoxon(differences: np.ndarray) -> float:
    """p of Wilcoxon's signed-rank test over folds (n,), two-sided; 1 if all are zero, NaN for fewer than two."""
    if len(differences) < 2:
        return math.nan
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences, method="approx").pvalue)


def corrected_t_test(differences: np.ndarray, *, test_share: float) -> float:
    """p of the corrected resampled t-test over r × k folds (n,), two-sided.

    The variance of the mean is (1/n + n_test / n_train) s² instead of s² / n; `test_share` is n_test / (n_test +
    n_train), 1/k for k folds.
    """
    return _t(differences, 1 / max(len(differences), 1) + test_share / (1 - test_share))


def _t(differences: np.ndarray, factor: float) -> float:
    """p of a t-test in which the variance of the mean is `factor` times that of the differences."""
    n = len(differences)
    if n < 2:
        return math.nan
    scale = math.sqrt(factor * differences.var(ddof=1))
    if scale < 1e-12:
        return 1.0 if abs(differences.mean()) < 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(differences.mean()) / scale, n - 1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down method, in the order given; NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    adjusted = np.array(p, float)
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method="holm")[1]
    return [float(value) for value in adjusted]


def bayes(differences: np.ndarray, *, test_share: float, rope: float = ROPE) -> tuple[float, float, float]:
    """Posterior probability that A is worse than B by more than `rope`, equivalent, better; sums to 1.

    Correlated Bayesian t-test with a flat prior: the mean difference is Student t with n - 1 degrees of freedom around
    the mean of the folds (n,), scale² (1/n + ρ/(1-ρ)) s², ρ = `test_share`.
    """
    n = len(differences)
    if n < 2:
        return math.nan, math.nan, math.nan
    mean = float(differences.mean())
    scale = math.sqrt((1 / n + test_share / (1 - test_share)) * differences.var(ddof=1))
    below, above = (
        (float(stats.t.cdf(edge, n - 1, mean, scale)) if scale > 1e-12 else float(mean < edge))
        for edge in (-rope, rope)
    )
    return below, above - below, 1 - above


def patient_tables(labels: np.ndarray, graded: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """The confusion matrix of each patient, in the order of np.unique; float (patients, 3 true, 3 graded).

    Args:
        labels, graded: int (n,), true and predicted types.
        patients: (n,), whose each region is.
    """
    names, index = np.unique(patients, return_inverse=True)
    tables = np.zeros((len(names), CLASSES, CLASSES))
    np.add.at(tables, (index, labels, graded), 1)
    return tables


def table_metrics(tables: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """The metrics of modic.statistics.metrics that follow from confusion matrices (…, 3 true, 3 graded), each (…)."""
    of_class, right, graded = tables.sum(-1), np.diagonal(tables, axis1=-2, axis2=-1), tables.sum(-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, f1 = right / of_class, 2 * right / (of_class + graded)
    present = of_class > 0
    f1 = np.where(present, f1, 0.0)
    counted = present.sum(-1)
    metrics = {("sensitivity", name): sensitivity[..., k] for k, name in enumerate(GRADES)}
    metrics |= {("F1", name): np.where(present[..., k], f1[..., k], np.nan) for k, name in enumerate(GRADES)}
    metrics["balanced accuracy", "all"] = np.where(present, sensitivity, 0.0).sum(-1) / counted
    metrics["F1", "macro"] = f1.sum(-1) / counted
    metrics["F1", "weighted"] = (f1 * of_class).sum(-1) / of_class.sum(-1)
    return metrics


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A difference A - B if the patients, each with all regions and repeats, were drawn again."""

    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[tuple[str, str], Bootstrap]:
    """Draw patients again and compare A with B, metric by metric.

    Draws in which a metric has no value do not count; a metric that never has one is left out.

    Args:
        a, b: confusion matrices of the same patients, (patients, 3, 3).
    """
    n = len(a)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)  # (draws, patients)
    shape = (draws, CLASSES, CLASSES)
    drawn = [table_metrics((times @ tables.reshape(n, -1)).reshape(shape)) for tables in (a, b)]
    compared = {}
    for key in drawn[0]:
        differences = drawn[0][key] - drawn[1][key]
        differences = differences[np.isfinite(differences)]
        if len(differences):
            low, high = np.percentile(differences, (2.5, 97.5))
            tail = min((differences <= 0).mean(), (differences >= 0).mean())
            compared[key] = Bootstrap(float(low), float(high), float(min(1.0, 2 * max(tail, 1 / len(differences)))))
    return compared


def apparent(sensitivities: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shares of grades and the positive predictive values that a classifier has in a population.

    Args:
        sensitivities: (3, 3), rows sum to 1: how a region of each true type is graded.
        true: (3,) true shares of the types.

    Returns:
        The shares of the grades (3,), and the share of each grade that is right (3,).
    """
    shares = true @ sensitivities
    with np.errstate(invalid="ignore", divide="ignore"):
        return shares, true * np.diag(sensitivities) / shares
