"""Prevalence corrected for the model's errors: from its confusion matrix elsewhere, or from a sample that readers read.

A grade is 0, 1 or 2; a level that the model left without one is `ABSTAINED`, a fourth thing that it can say, and is
counted as such, never dropped. A raw count of a rare grade is mostly false positives: with the paper's sensitivities a
true 5 % of MC1 appears as 12.7 %.

`rogan_gladen`       the model's counts in the cohort and a validation anywhere, where it errs as it does here
`prediction_powered` a random sample of this very cohort that readers read: nothing has to be alike elsewhere
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from modic.statistics.intervals import clustered_mean

GRADES, ABSTAINED = 3, 3
DRAWS = 4000
SMOOTH = 0.5
FEW, UNSEEN = 5, 0.5
"""Where a count of the cohort is below FEW, shares are drawn with UNSEEN added to each (Jeffreys), else as normal."""

PERCENT = (2.5, 5, 95, 97.5)
SHORTEST = 0.5
"""Part of its usual way that an interval's end goes from a bound that the estimate lies beyond."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Share of each grade with 95 % interval, all (3,), and what it rests on."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: str
    n: int  # levels of the cohort
    n_patients: int
    n_read: int  # levels (or readings) of the validation


def rogan_gladen(
    predicted: np.ndarray, patients: np.ndarray, confusion: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Corrected:
    """Rogan and Gladen's correction for three grades: what true shares would appear as the shares that are seen.

    Args:
        predicted: int (n,), 0-2 or ABSTAINED, of each level of the cohort.
        patients: (n,), whose level it is.
        confusion: (3, 3) or, with abstentions, (3, 4): readings by true grade (row) and what the model said (column);
            effective numbers where readings are weighted or of few patients (`confusion_of`).

    Shares are the most likely ones on the simplex. Their interval is the spread of plain inversion over `draws` of both
    uncertainties, the cohort's (by patient) and the validation's; `_bounded` where that reaches below 0 or above 1.
    Raises ValueError where the validation cannot answer: no reading of a grade, no abstention where the cohort has
    some, or a model that tells grades no better than chance; and for a single patient.
    """
    columns = GRADES + 1
    table = np.zeros((GRADES, columns))
    table[:, : np.shape(confusion)[1]] = confusion
    seen = np.eye(columns)[predicted]
    _refuse(table, seen)
    used = np.flatnonzero((seen.sum(0) > 0) | (table.sum(0) > 0))
    table, seen = table[:, used], seen[:, used]
    m = len(np.unique(patients))
    if m < 2:
        raise ValueError("an interval needs levels of at least two patients")
    share, covariance = clustered_mean(seen, patients)
    share_true = most_likely(share, table / table.sum(1, keepdims=True))
    rng = np.random.default_rng(seed)
    counts = share * _effective(share, covariance, len(seen), m)
    if counts.min() < FEW:  # none seen of 20 is not none
        apparent = rng.dirichlet(counts + UNSEEN, size=draws)
    else:
        apparent = rng.multivariate_normal(share, covariance, size=draws, method="eigh").clip(min=0)
    rows = np.stack([rng.dirichlet(row + SMOOTH / len(used), size=draws) for row in table], axis=1)
    plain = inverted(share[None], table[None] / table.sum(1, keepdims=True))[0]
    low, high = _bounded(np.percentile(inverted(apparent, rows), PERCENT, axis=0), plain, share_true)
    return Corrected(share_true, low, high, "Rogan-Gladen", len(seen), m, round(float(np.sum(confusion))))


def _bounded(ends: np.ndarray, plain: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval (3,), (3,) within 0-1, from the ends (4, 3) of the usual one at PERCENT, around `share` (3,).

    The `plain` estimate (3,) of a rare grade lies below 0 where there are fewer than its false positives by chance, and
    the usual interval would be empty or absurdly short. So its upper end reaches at least SHORTEST of its usual way. No
    share below that is then missed from above, and 97.5 % would be covered: the lower end of such intervals leaves all
    5 % below, which keeps 95 % (after Feldman and Cousins, Phys. Rev. D 57 (1998) 3873-3889). The same at 1.
    """
    low, low_5, high_5, high = ends
    floor, ceiling = SHORTEST * (high - plain), 1 - SHORTEST * (plain - low)
    lower = np.minimum(np.maximum(low, np.minimum(low_5, floor)), ceiling)
    upper = np.maximum(np.minimum(high, np.maximum(high_5, ceiling)), floor)
    return np.minimum(lower.clip(0, 1), share), np.maximum(upper.clip(0, 1), share)


def _refuse(table: np.ndarray, seen: np.ndarray) -> None:
    if not (table.sum(1) > 0).all():
        raise ValueError(f"the validation holds no reading of MC{int(np.argmin(table.sum(1)))}")
    if seen[:, ABSTAINED].any() and not table[:, ABSTAINED].any():
        raise ValueError("the cohort has levels without a grade (abstained), the validation has none: count them there")
    rows = table / table.sum(1, keepdims=True)
    if np.linalg.matrix_rank(rows, tol=1e-3) < GRADES:
        raise ValueError("in the validation the model does not tell the three grades apart: nothing can be corrected")


def _effective(share: np.ndarray, covariance: np.ndarray, n: int, patients: int) -> float:
    """Independent levels that would say as much as these: by the mean design effect of all categories."""
    variance = float(np.trace(covariance))
    spread = float((share * (1 - share)).sum())
    return min(spread / variance, float(n)) if variance > 0 else float(patients)


def inverted(apparent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """True shares (draws, 3) that least squares finds for `apparent` (draws, c) and `rows` (draws, 3, c); sum 1."""
    scale = 1 / np.sqrt(np.maximum(apparent, 1e-9))
    left = np.swapaxes(rows, 1, 2) * scale[:, :, None]  # draws, c, 3
    right = (apparent * scale)[:, :, None]
    square = np.swapaxes(left, 1, 2) @ left + 1e-12 * np.eye(GRADES)
    found = np.linalg.solve(square, np.swapaxes(left, 1, 2) @ right)[:, :, 0]
    return found / found.sum(1, keepdims=True)


def most_likely(apparent: np.ndarray, rows: np.ndarray, *, steps: int = 20_000) -> np.ndarray:
    """The true shares (3,) on the simplex under which `apparent` (c,) is most likely, by expectation maximization."""
    shares = np.full(GRADES, 1 / GRADES)
    for _ in range(steps):
        expected = np.maximum(shares @ rows, 1e-12)
        updated = shares * (rows @ (apparent / expected))
        if np.abs(updated - shares).max() < 1e-10:
            break
        shares = updated
    return updated / updated.sum()


def confusion_of(
    truth: np.ndarray, predicted: np.ndarray, patients: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """(3, 4) effective numbers of readings by true grade and what the model said.

    Each row keeps its weighted shares; its sum is the number of independent readings that would be as sure of them,
    since readings of one patient are alike and weights are uneven.
    """
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    table, said = np.zeros((GRADES, GRADES + 1)), np.eye(GRADES + 1)[predicted]
    for grade in range(GRADES):
        of = truth == grade
        if of.any():
            share, covariance = clustered_mean(said[of], patients[of], weights[of])
            table[grade] = share * _effective(share, covariance, int(of.sum()), len(np.unique(patients[of])))
    return table


def prediction_powered(
    p: np.ndarray, patients: np.ndarray, *, read: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> Corrected:
    """Prediction-powered inference: the model's mean over the cohort, and its mean error on the levels that were read.

    Args:
        p: float (n, 3), the model's probabilities of each level of the cohort.
        patients: (n,), whose level it is.
        read: int (r,), which levels of the cohort were read.
        truth: int (r,) of 0-2, or float (r, 3), the share of readers who said each grade.
        weights: float (r,), inverse to the chance of having been drawn for reading.

    Right however wrong the model is, provided the read levels are a random sample with these weights (Angelopoulos et
    al., Science 382 (2023) 669-674). The model is trusted as it is: tuning that trust on few readings made intervals
    that covered less. They are Student's, with patients as clusters, and `_bounded`: Wilson's takes the variance for a
    count's, and covered 76-89 % where a grade is rare.
    """
    y = np.eye(GRADES)[truth] if np.ndim(truth) == 1 else np.asarray(truth, float)
    w = np.ones(len(read)) if weights is None else np.asarray(weights, float)
    here = np.asarray(patients)[read]
    m = len(np.unique(here))
    if m < 2:
        raise ValueError("levels of at least two patients must have been read")
    error, error_covariance = clustered_mean(y - p[read], here, w)
    mean, mean_covariance = clustered_mean(p, patients)
    plain, deviation = mean + error, np.sqrt(np.diag(error_covariance + mean_covariance))
    share = plain.clip(0, 1) / plain.clip(0, 1).sum()
    ends = plain + student.ppf(np.array(PERCENT) / 100, m - 1)[:, None] * deviation
    low, high = _bounded(ends, plain, share)
    method = "prediction-powered inference"
    return Corrected(share, low, high, method, len(p), len(np.unique(patients)), len(read))
