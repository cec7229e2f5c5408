"""Shares with intervals that allow for levels of one patient being alike."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Z = 1.959964
"""Quantile of the normal distribution for 95 % intervals."""


@dataclass(frozen=True, slots=True)
class Share:
    """A proportion with its 95 % interval; `variance` is that of `value` if patients were drawn again."""

    value: float
    low: float
    high: float
    variance: float
    n: int  # levels
    n_patients: int


def wilson(k: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson score interval (95 % by default) of a proportion `k / n` of independent units; (0, 1) if `n` is 0.

    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212. Count patients, or one level of each patient: several
    levels of one patient are not independent and would make the interval too narrow; use `clustered_share` for them.
    (statsmodels has this interval for a confidence level, not for the quantile z that `effective_wilson` needs.)
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    if n == 0:
        return 0.0, 1.0
    p, square = k / n, z * z / n
    middle = (p + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(p * (1 - p) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def clustered_mean(
    values: np.ndarray, patients: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean (k,) of the columns of `values`, and its covariance (k, k) if patients were drawn again.

    Args:
        values: float (n, k).
        patients: (n,) of any type; equal values are one patient.
        weights: float (n,), inverse to the chance of having been drawn; None means all equal.

    The covariance is Taylor's for a ratio, with patients as primary sampling units (Cochran, Sampling Techniques,
    3rd ed. 1977, 6.13); nan for a single patient.
    """
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    mean = np.average(values, axis=0, weights=weights)
    names, of_patient = np.unique(patients, return_inverse=True)
    totals = np.zeros((len(names), values.shape[1]))
    np.add.at(totals, of_patient, weights[:, None] * (values - mean))
    m = len(names)
    scale = m / (m - 1) / weights.sum() ** 2 if m > 1 else np.nan
    return mean, scale * totals.T @ totals


def clustered_share(hit: np.ndarray, patients: np.ndarray) -> Share:
    """`share_of_counts` of levels that are a `hit`.

    Args:
        hit: bool or 0-1 (n,).
        patients: (n,) of any type; equal values are one patient.
    """
    _, patient = np.unique(patients, return_inverse=True)
    return share_of_counts(np.bincount(patient, hit), np.bincount(patient))


def share_of_counts(hits: np.ndarray, levels: np.ndarray) -> Share:
    """Share of levels that are a hit, from the number of `hits` and of `levels` of each patient, (patients,) both.

    The interval is Wilson's with the effective number of levels, by the design effect, and with Student's t since
    patients may be few (Dean and Pagano, Am. Stat. 69 (2015) 270-281: among the usual intervals it covers well also for
    small shares). The variance is that of `clustered_mean`. If no level or every level is a hit, each patient counts
    once. Raises ValueError without levels.
    """
    n, m = int(levels.sum()), int(np.count_nonzero(levels))
    if not n:
        raise ValueError("no levels to take a share of")
    value = float(hits.sum() / n)
    variance = float(((hits - value * levels) ** 2).sum() * m / (m - 1) / n**2) if m > 1 else np.nan
    low, high = effective_wilson(value, variance, n=n, patients=m)
    return Share(value, low, high, variance, n, m)


def effective_wilson(value: float, variance: float, *, n: int, patients: int) -> tuple[float, float]:
    """Wilson's interval of a share `value` with known variance, for the number of units that would have that variance.

    `n` levels (the most units that are assumed) of `patients` patients; (0, 1) for a single patient.
    """
    if patients < 2:
        return 0.0, 1.0
    effective = value * (1 - value) / variance if variance > 0 else float(patients)
    effective = min(effective, float(n))
    return wilson(value * effective, effective, float(stdtrit(patients - 1, 0.975)))
