"""Prevalence corrected for the errors of the model: with a confusion matrix, or with a sample that readers read.

A grade is 0, 1 or 2. A level that the model left without a grade is `ABSTAINED`: an answer of its own that is counted,
never dropped. Most grades of a rare type are false positives: with the paper's sensitivities a true 5 % of MC1 appears
as 12.7 %.

`rogan_gladen`       the model's counts, and a validation anywhere; assumes that the model errs there as it does here
`prediction_powered` a random sample of this cohort that readers read; assumes nothing about other places
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtrit

from modic.grades import CLASSES
from modic.statistics.difference import Estimate, Read, mean
from modic.statistics.intervals import clustered_mean, wilson

ABSTAINED = CLASSES
"""The model's answer that is no grade, beside 0 to CLASSES - 1."""

DRAWS = 4000
SMOOTH = 0.5
FEW, UNSEEN = 5, 0.5
"""If a count of the cohort is below FEW, shares are drawn from a Dirichlet distribution with UNSEEN added to each count
(Jeffreys), otherwise from a normal one."""

PERCENT = (2.5, 5, 95, 97.5)
SHORTEST = 0.5
"""Share of its usual length that an interval keeps beyond 0 or 1 if the estimate lies outside."""


class Method(StrEnum):
    """How a share was corrected; the value is what people read."""

    ROGAN_GLADEN = "Rogan-Gladen"
    PREDICTION_POWERED = "prediction-powered inference"


@dataclass(frozen=True, slots=True)
class Corrected:
    """Share of each grade with its 95 % interval, all (classes,), and what it rests on."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: Method
    n: int  # levels of the cohort
    n_patients: int
    n_read: int  # levels (or readings) of the validation


def rogan_gladen(
    predicted: np.ndarray, patients: np.ndarray, confusion: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> Corrected:
    """Rogan and Gladen's correction for several grades: the true shares that would appear as the observed ones.

    Args:
        predicted: int (n,), 0-2 or ABSTAINED, of each level of the cohort.
        patients: (n,), whose level it is.
        confusion: (classes, classes) or, with abstentions, (classes, classes + 1): readings by true grade (row) and
            answer of the model (column); effective numbers if readings are weighted or of few patients
            (`confusion_of`).

    The shares are the most likely ones that sum to 1. Their interval is the spread of plain matrix inversion over
    `draws` of both uncertainties, of the cohort (by patient) and of the validation; `bounded` keeps it within 0-1.
    Raises ValueError for a single patient, and if the validation cannot answer: it lacks a grade, it lacks abstentions
    and the cohort has some, or the model grades no better than chance.
    """
    columns = CLASSES + 1
    table = np.zeros((CLASSES, columns))
    table[:, : np.shape(confusion)[1]] = confusion
    given = np.eye(columns)[predicted]
    _refuse(table, given)
    used = np.flatnonzero((given.sum(0) > 0) | (table.sum(0) > 0))
    table, given = table[:, used], given[:, used]
    m = len(np.unique(patients))
    if m < 2:
        raise ValueError("an interval needs levels of at least two patients")
    share, covariance = clustered_mean(given, patients)
    share_true = most_likely(share, table / table.sum(1, keepdims=True))
    rng = np.random.default_rng(seed)
    counts = share * _effective(share, covariance, len(given), m)
    if counts.min() < FEW:  # none of 20 does not mean that there are none
        apparent = rng.dirichlet(counts + UNSEEN, size=draws)
    else:
        apparent = rng.multivariate_normal(share, covariance, size=draws, method="eigh").clip(min=0)
    rows = np.stack([rng.dirichlet(row + SMOOTH / len(used), size=draws) for row in table], axis=1)
    plain = inverted(share[None], table[None] / table.sum(1, keepdims=True))[0]
    low, high = bounded(np.percentile(inverted(apparent, rows), PERCENT, axis=0), plain, share_true)
    return Corrected(share_true, low, high, Method.ROGAN_GLADEN, len(given), m, round(float(np.sum(confusion))))


def bounded(ends: np.ndarray, plain: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval within 0-1 around `share`: its lower and upper ends, each (classes,).

    Args:
        ends: (4, classes), the ends of the usual interval at PERCENT.
        plain: (classes,), the estimate before it was kept within 0-1.
        share: (classes,), the estimate that is shown.

    The plain estimate of a rare grade lies below 0 if, by chance, fewer levels have it than false positives are
    expected; the usual interval would then be empty or absurdly short. So its upper end keeps at least SHORTEST of its
    usual length. No smaller share is then missed from above, and 97.5 % would be covered; therefore the lower end of
    such an interval leaves out all 5 % below, which keeps 95 % (after Feldman and Cousins, Phys. Rev. D 57 (1998)
    3873-3889). The same applies at 1.
    """
    low, low_5, high_5, high = ends
    floor, ceiling = SHORTEST * (high - plain), 1 - SHORTEST * (plain - low)
    lower = np.minimum(np.maximum(low, np.minimum(low_5, floor)), ceiling)
    upper = np.maximum(np.minimum(high, np.maximum(high_5, ceiling)), floor)
    return np.minimum(lower.clip(0, 1), share), np.maximum(upper.clip(0, 1), share)


def _refuse(table: np.ndarray, given: np.ndarray) -> None:
    """Raise ValueError if a validation `table` cannot correct the answers `given` (n, classes + 1)."""
    if not (table.sum(1) > 0).all():
        raise ValueError(f"the validation holds no reading of MC{int(np.argmin(table.sum(1)))}")
    if given[:, ABSTAINED].any() and not table[:, ABSTAINED].any():
        raise ValueError("the cohort has abstained levels, the validation has none: count them there too")
    rows = table / table.sum(1, keepdims=True)
    if np.linalg.matrix_rank(rows, tol=1e-3) < CLASSES:
        raise ValueError("in the validation the model does not tell the grades apart: nothing can be corrected")


def _effective(share: np.ndarray, covariance: np.ndarray, n: float, patients: int) -> float:
    """Number of independent levels that would be as informative, by the mean design effect of all categories."""
    variance = float(np.trace(covariance))
    spread = float((share * (1 - share)).sum())
    return min(spread / variance, n) if variance > 0 else float(patients)


def inverted(apparent: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """True shares (draws, classes), sum 1, by weighted least squares.

    `apparent`: (draws, answers), observed shares; `rows`: (draws, classes, answers), shares of answers by true grade.
    """
    scale = 1 / np.sqrt(np.maximum(apparent, 1e-9))
    left = np.swapaxes(rows, 1, 2) * scale[:, :, None]  # (draws, answers, classes)
    right = (apparent * scale)[:, :, None]
    square = np.swapaxes(left, 1, 2) @ left + 1e-12 * np.eye(CLASSES)
    shares = np.linalg.solve(square, np.swapaxes(left, 1, 2) @ right)[:, :, 0]
    return shares / shares.sum(1, keepdims=True)


def most_likely(apparent: np.ndarray, rows: np.ndarray, *, steps: int = 20_000) -> np.ndarray:
    """The true shares (classes,), sum 1, under which `apparent` (answers,) is most likely, by expectation maximization.

    `rows`: (classes, answers), shares of the model's answers by true grade.
    """
    shares = np.full(CLASSES, 1 / CLASSES)
    for _ in range(steps):
        expected = np.maximum(shares @ rows, 1e-12)
        updated = shares * (rows @ (apparent / expected))
        if np.abs(updated - shares).max() < 1e-10:
            break
        shares = updated
    return updated / updated.sum()


def confusion_of(
    truth: np.ndarray, predicted: np.ndarray, patients: np.ndarray, weights: np.ndarray | None = None,
    shares: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Effective numbers of levels read (classes, classes + 1) by true grade (row) and answer of the model (column).

    Args:
        truth: int (n,), the readers' grades.
        predicted: int (n,), the model's answers; ABSTAINED for none.
        patients: (n,), whose level it is.
        weights: float (n,), inverse to the chance of having been drawn; None means all equal.
        shares: float (n,), 0-1, what part of its level's readings each is; None means one reader a level.

    Each row keeps its weighted shares. Its sum is the number of independent levels that would be as informative,
    since levels of one patient are alike and weights are uneven. A level counts once, however many read it.
    """
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    shares = np.ones(len(truth)) if shares is None else shares
    table, answers = np.zeros((CLASSES, CLASSES + 1)), np.eye(CLASSES + 1)[predicted]
    for grade in range(CLASSES):
        of = truth == grade
        if of.any():
            share, covariance = clustered_mean(answers[of], patients[of], weights[of])
            table[grade] = share * _effective(share, covariance, float(shares[of].sum()), len(np.unique(patients[of])))
    return table


def prediction_powered(
    p: np.ndarray, patients: np.ndarray, *, read: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None
) -> Corrected:
    """The difference estimator (modic.statistics.difference): the model's mean over the cohort plus its mean error on
    the levels that were read, its part weighted by answer so that the variance is smallest.

    Args:
        p: float (n, classes), the model's probabilities of each level of the cohort.
        patients: (n,), whose level it is.
        read: int (r,), indices of the levels that were read.
        truth: int (r,), their grades, or float (r, classes), the share of readers who gave each grade.
        weights: float (r,), inverse to the chance of having been drawn for reading.

    Valid however wrong the model is, provided that the read levels are a random sample with these weights (Angelopoulos
    et al., Science 382 (2023) 669-674). Intervals are Student's with patients as clusters, and `bounded`. (Wilson's,
    which assumes the variance of a count, covered 76-89 % for rare grades.) Raises ValueError if the read levels are of
    fewer than two patients.
    """
    y = np.eye(CLASSES)[truth] if np.ndim(truth) == 1 else np.asarray(truth, float)
    w = np.ones(len(read)) if weights is None else np.asarray(weights, float)
    units = Read(np.asarray(read), y, w)
    found = mean(p, p.argmax(1), patients, units)
    share = found.values[0].clip(0, 1) / found.values[0].clip(0, 1).sum()
    low, high = student_bounds(found, share, units)
    return Corrected(share, low, high, Method.PREDICTION_POWERED, len(p), len(np.unique(patients)), len(read))


def student_bounds(found: Estimate, share: np.ndarray, read: Read) -> tuple[np.ndarray, np.ndarray]:
    """Student's 95 % interval (`bounded`) of means (1, k) that are shown as `share` (k,).

    An outcome that readers saw at no unit, or at all, leaves nothing to learn its variance from: the interval then
    reaches as far as Wilson's of none, or all, of as many units as the weights are worth (Kish).
    """
    deviation, freedom = found.spread()
    ends = found.values[0] + stdtrit(freedom, np.array(PERCENT)[:, None] / 100) * deviation
    low, high = bounded(ends, found.values[0], share)
    units = read.weights.sum() ** 2 / (read.weights**2).sum()
    none, every = (read.truth == 0).all(0), (read.truth == 1).all(0)
    return (
        np.where(none, 0.0, np.where(every, np.minimum(low, wilson(units, units)[0]), low)),
        np.where(every, 1.0, np.where(none, np.maximum(high, wilson(0, units)[1]), high)),
    )


def own_prevalence(p: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) for this cohort, of `p` that are calibrated for equally frequent grades.

    Expectation maximization of the prior shift (Saerens, Latinne, Decaestecker, Neural Comput. 14 (2002) 21-41): right
    if the model errs here as where it was calibrated. A guess before anything is read, no answer.
    """
    share = np.full(p.shape[1], 1 / p.shape[1])
    for _ in range(2000):
        shifted = p * share
        shifted /= shifted.sum(1, keepdims=True)
        before, share = share, shifted.mean(0)
        if np.abs(share - before).max() < 1e-7:
            break
    return shifted
