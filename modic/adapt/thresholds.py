"""Thresholds of the prediction sets from a site's readings, and what so many readings can promise.

As modic.statistics.calibration, but a reading counts as often as the discs that it stands for. A type's threshold is
fitted from `FEWEST` readings of it on, all of them from `DISCS` discs on, and only if the grader was updated or the
shipped thresholds are shown to hold another share of some type than they promise: noise of few readings must not
replace thresholds that hold.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student

from modic.adapt.choice import LEVEL
from modic.grades import CLASSES
from modic.statistics.intervals import clustered_mean

DISCS, FEWEST = 50, 20


def weighted_quantile(scores: np.ndarray, weights: np.ndarray, alpha: float) -> float:
    """The smallest score below which 1 - alpha of all weight lies, a further reading of mean weight counted as larger.

    With equal weights it is the score of rank ceil((n + 1)(1 - alpha)); 1 if there are too few.
    """
    order = np.argsort(scores, kind="stable")
    cumulated = np.cumsum(weights[order])
    needed = (cumulated[-1] + weights.mean()) * (1 - alpha)
    place = int(np.searchsorted(cumulated, needed - 1e-9))
    return float(scores[order][place]) if place < len(scores) else 1.0


def site_quantiles(
    p: np.ndarray, labels: np.ndarray, weights: np.ndarray, alpha: float, shipped: np.ndarray
) -> np.ndarray:
    """(classes,): q_k of each type that was read `FEWEST` times, that of the shipped grader for others.

    Args:
        p: float (n, classes), cross-fitted.
    """
    q = np.array(shipped, float)
    for k in range(CLASSES):
        of = labels == k
        if of.sum() >= FEWEST:
            q[k] = weighted_quantile(1 - p[of, k], weights[of], alpha)
    return q


def coverage_differs(
    held: np.ndarray, labels: np.ndarray, patients: np.ndarray, weights: np.ndarray, alpha: float
) -> bool:
    """Whether the share of discs `held` (bool, n) by their sets is shown to differ from 1 - alpha in a type (Holm)."""
    p_values = []
    for k in range(CLASSES):
        of = labels == k
        n = len(np.unique(patients[of]))
        if of.sum() < FEWEST or n < 2:
            continue
        mean, covariance = clustered_mean(held[of].astype(float)[:, None], patients[of], weights[of])
        sampled, value = float(covariance[0, 0]), float(mean[0])
        error = np.sqrt(max(sampled, alpha * (1 - alpha) / of.sum()))
        p_values.append(2 * student.sf(abs(value - (1 - alpha)) / error, n - 1))
    return bool(p_values) and min(p_values) < LEVEL / len(p_values)


@dataclass(frozen=True, slots=True)
class Promise:
    """How far the share of a type that sets hold may lie from 1 - alpha, as chance of the draw of the readings."""

    readings: float  # effective number
    sd: float  # standard deviation of the coverage, 0-1
    low: float  # of 95 of 100 sites
    high: float


def promise(readings: float, alpha: float) -> Promise:
    """Coverage of a threshold from so many independent readings: Beta(r, n + 1 - r), r = ceil((n + 1)(1 - alpha)).

    (Vovk, Mach. Learn. 92 (2013) 349-376.) Readings of one patient are alike, so count effective readings. Too few for
    any threshold: the set always holds the type, coverage 1.
    """
    rank = np.ceil((readings + 1) * (1 - alpha) - 1e-9)
    if rank > readings:
        return Promise(readings, 0.0, 1.0, 1.0)
    of = beta(rank, readings + 1 - rank)
    low, high = of.ppf([0.025, 0.975])
    return Promise(readings, float(of.std()), float(low), float(high))


def effective(weights: np.ndarray) -> float:
    """Number of evenly drawn readings that these are worth (Kish 1965); those of one patient are worth less still."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0
