"""Thresholds of the prediction sets from a site's readings, and what so many readings can promise.

As modic.statistics.calibration, but a disc counts as often as the discs that it stands for. A type's threshold is
fitted from `FEWEST` discs of it on, all of them from `DISCS` discs on, and only if the grader was updated or the
shipped thresholds are shown to hold another share of some type than they promise: noise of few readings must not
replace thresholds that hold. Several readings of a disc are one disc.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student

from modic.adapt.choice import LEVEL
from modic.adapt.update import Discs
from modic.grades import CLASSES
from modic.statistics.intervals import clustered_mean

DISCS, FEWEST = 50, 20


def weighted_quantile(scores: np.ndarray, weights: np.ndarray, alpha: float, n: float) -> float:
    """The smallest score below which 1 - alpha of all weight lies, a further disc of mean weight counted as larger.

    `n`: number of discs. With equal weights it is the score of rank ceil((n + 1)(1 - alpha)); 1 if there are too few.
    """
    order = np.argsort(scores, kind="stable")
    cumulated = np.cumsum(weights[order])
    needed = cumulated[-1] * (1 + 1 / n) * (1 - alpha)
    place = int(np.searchsorted(cumulated, needed - 1e-9))
    return float(scores[order][place]) if place < len(scores) else 1.0


def enough(discs: Discs) -> tuple[int, ...]:
    """The types that were read often enough for a threshold of their own."""
    return tuple(k for k in range(CLASSES) if discs.types[k] >= FEWEST)


def site_quantiles(p: np.ndarray, discs: Discs, alpha: float, shipped: np.ndarray) -> np.ndarray:
    """(classes,): q_k of each type that `enough` discs have, that of the shipped grader for others.

    Args:
        p: float (n, classes), cross-fitted.
    """
    q = np.array(shipped, float)
    for k in enough(discs):
        of = discs.labels == k
        q[k] = weighted_quantile(1 - p[of, k], discs.weights[of], alpha, discs.types[k])
    return q


def coverage_differs(held: np.ndarray, discs: Discs, alpha: float) -> bool:
    """Whether the share of discs `held` (bool, n) by their sets is shown to differ from 1 - alpha in a type (Holm)."""
    p_values = []
    for k in enough(discs):
        of = discs.labels == k
        n = len(np.unique(discs.patients[of]))
        if n < 2:
            continue
        mean, covariance = clustered_mean(held[of].astype(float)[:, None], discs.patients[of], discs.weights[of])
        sampled, value = float(covariance[0, 0]), float(mean[0])
        error = np.sqrt(max(sampled, alpha * (1 - alpha) / discs.types[k]))
        p_values.append(2 * student.sf(abs(value - (1 - alpha)) / error, n - 1))
    return bool(p_values) and min(p_values) < LEVEL / len(p_values)


@dataclass(frozen=True, slots=True)
class Promise:
    """How far the share of a type that sets hold may lie from 1 - alpha, as chance of the draw of the discs."""

    discs: float  # effective number
    sd: float  # standard deviation of the coverage, 0-1
    low: float  # of 95 of 100 sites
    high: float


def promise(discs: float, alpha: float) -> Promise:
    """Coverage of a threshold from so many independent discs: Beta(r, n + 1 - r), r = ceil((n + 1)(1 - alpha)).

    (Vovk, Mach. Learn. 92 (2013) 349-376.) Discs of one patient are alike, so count effective ones. Too few for any
    threshold: the set always holds the type, coverage 1.
    """
    rank = np.ceil((discs + 1) * (1 - alpha) - 1e-9)
    if rank > discs:
        return Promise(discs, 0.0, 1.0, 1.0)
    of = beta(rank, discs + 1 - rank)
    low, high = of.ppf([0.025, 0.975])
    return Promise(discs, float(of.std()), float(low), float(high))


def effective(weights: np.ndarray, shares: np.ndarray) -> float:
    """Number of evenly drawn discs that these are worth (Kish 1965), a disc once however many readers share it.

    `weights` and `shares` (n,) as in `Discs`. Discs of one patient are worth less still.
    """
    return float(weights.sum() ** 2 / (weights**2 / shares).sum()) if len(weights) else 0.0
