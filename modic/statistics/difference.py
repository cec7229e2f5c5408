"""The difference estimator: what the model says of every unit, plus what it missed on the units that readers read.

A unit is a level or a patient. Its pseudo-outcome is

    f(p) + r w (y - f(p)),   f(p) = α + λ p

with p the model's probability, r whether readers read it, w the inverse of its chance of having been drawn, y what they
read. Its mean is unbiased however wrong the model is, if the units were drawn at random with these weights. It takes
the place of y in every estimating equation: shares, differences, regressions.

| source                                                    | what                                                     |
|-----------------------------------------------------------|----------------------------------------------------------|
| Särndal, Swensson, Wretman, Model Assisted Survey         | the difference estimator, the residuals'                 |
|   Sampling (1992), 6.3                                    |   variance                                               |
| Egami et al., NeurIPS 2023 (design-based supervised       | pseudo-outcomes in regressions                           |
|   learning)                                               |                                                          |
| Angelopoulos, Duchi, Zrnic, arXiv 2311.01453 (PPI++)      | f, which makes the variance smallest                     |
| Binder, Int. Stat. Rev. 51 (1983) 279-292                 | sandwich variance, patients as clusters                  |
| Pan and Wall, Stat. Med. 21 (2002) 1429-1441              | Student's t, with as many degrees of freedom as the      |
|                                                           |   spread of the patients' contributions allows           |

The line f is learnt for each answer of the model (the strata of `modic review --by grade`), on all but one of FOLDS
parts of the read patients in turn, so that no reading takes part in its own residual.
tests/benchmarks/coverage.py checks it against predict-then-debias with a bootstrap of patients (Kluger et al., arXiv
2501.18577).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

FOLDS = 5
TUNED_FROM = 20
"""Fewest readings of one answer from which its own line is learnt, and fewest with and without an outcome from which
any is; below, p itself is taken (with 10 of an outcome, lines covered 88-91 %, p 94-95 %)."""
STEPS, SMALL = 200, 1e-9
Link = Literal["identity", "logit"]


@dataclass(frozen=True, slots=True)
class Read:
    """The units that readers read.

    place: int (r,), their rows among all units. truth: float (r, k), k outcomes, or the share of readers who saw each.
    weights: float (r,), inverse to the chance of having been drawn.
    """

    place: np.ndarray
    truth: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class Pseudo:
    """Pseudo-outcomes in two parts: `said` (n, k), f(p) of all units; `missed` (r, k), y - f(p) of the read ones, whose
    rows are `place` (r,) and whose weights `weights` (r,)."""

    said: np.ndarray
    missed: np.ndarray
    place: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class Estimate:
    """Coefficients (d, k), and what each patient adds to them: `parts` (patients, d k), whose sum is 0.

    Index j k + i of a part is of column j and outcome i. `n_read`: patients of whom a unit was read.
    """

    values: np.ndarray
    parts: np.ndarray
    n_read: int

    @property
    def covariance(self) -> np.ndarray:
        """(d k, d k), patients as clusters."""
        covariance: np.ndarray = self.n_read / (self.n_read - 1) * self.parts.T @ self.parts
        return covariance

    def spread(self, slopes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors and degrees of freedom of all coefficients, (d k,), or of linear combinations of them.

        `slopes`: (d k, c). A variance is a sum of squares, of which that of few patients with large weights is most:
        it is known as well as one of 2 / (its relative variance) degrees of freedom, at most `n_read` - 1.
        """
        parts = self.parts if slopes is None else self.parts @ slopes
        square = parts**2
        shares = square / np.maximum(square.sum(0), 1e-300)
        relative = (shares**2).sum(0) - 1 / len(parts)
        freedom = (2 / np.maximum(relative, 1e-12)).clip(1, self.n_read - 1)
        return np.sqrt(self.n_read / (self.n_read - 1) * square.sum(0)), freedom

    def half(self) -> np.ndarray:
        """Half of the 95 % interval of each coefficient, (d, k)."""
        deviation, freedom = self.spread()
        wide: np.ndarray = (stdtrit(freedom, 0.975) * deviation).reshape(self.values.shape)
        return wide


def pseudo_outcomes(p: np.ndarray, answers: np.ndarray, patients: np.ndarray, read: Read) -> Pseudo:
    """f(p), and y - f(p).

    Args:
        p: float (n, k), what the model says of each outcome.
        answers: (n,) of any type, the model's answers, each with a line of its own.
        patients: (n,), whose unit it is.
        read: what readers read.

    Raises ValueError if they read less than two patients.
    """
    if len(np.unique(np.asarray(patients)[read.place])) < 2:
        raise ValueError("units of at least two patients must have been read")
    names, answer = np.unique(answers, return_inverse=True)
    fold = folds_of(np.asarray(patients)[read.place])
    learnt = [_learn(p, answer, len(names), read, fold != part) for part in range(FOLDS)]
    level, slope = (np.stack(parts) for parts in zip(*learnt, strict=True))
    of = answer[read.place]
    missed = read.truth - level[fold, of] - slope[fold, of] * p[read.place]
    return Pseudo(level.mean(0)[answer] + slope.mean(0)[answer] * p, missed, read.place, read.weights)


def folds_of(patients: np.ndarray, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """The part (0 to `folds` - 1) of each unit; all units of a patient are in one."""
    names, place = np.unique(patients, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[place] % min(folds, len(names))


def _learn(p: np.ndarray, answer: np.ndarray, n: int, read: Read, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """α and λ, each (answers, outcomes): the line of y over p within each answer, of the read units `used`."""
    place, y, w = read.place[used], read.truth[used], read.weights[used]
    of, said = answer[place], p[place]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(of, w * column, n) for column in values.T], 1)

    total = np.maximum(np.bincount(of, w, n)[:, None], 1e-12)
    mean_y, mean_p = sums(y) / total, sums(said) / total
    above_y, above_p = y - mean_y[of], said - mean_p[of]
    both, square = sums(above_y * above_p), sums(above_p * above_p)
    few = (np.bincount(of, minlength=n) < TUNED_FROM)[:, None]
    slope_of_all = (both.sum(0) / np.maximum(square.sum(0), 1e-12)).clip(0, 1)
    slope = np.where(few, slope_of_all, (both / np.maximum(square, 1e-12)).clip(0, 1))
    level_of_all = np.average(y - slope_of_all * said, axis=0, weights=w)
    level = np.where(few, level_of_all, mean_y - slope * mean_p)
    rare = np.minimum((y > 0).sum(0), (y < 1).sum(0)) < TUNED_FROM
    return np.where(rare, 0, level), np.where(rare, 1, slope)


def solve(x: np.ndarray, pseudo: Pseudo, patients: np.ndarray, link: Link = "identity") -> Estimate:
    """Coefficients (d, k) of k regressions on `x` (n, d), patients as clusters.

    Solves Σ x (f(p) - μ) + c Σ w x (y - f(p)) = 0, where μ is x β or its logistic and c scales the weights to n units
    (Hájek). With a single column of ones and no link, β is the mean of the pseudo-outcomes. Raises ValueError if less
    than two patients were read or no finite β solves the equation.
    """
    place, (n, d), k = pseudo.place, x.shape, pseudo.said.shape[1]
    n_read = len(np.unique(np.asarray(patients)[place]))
    if n_read < 2:
        raise ValueError("units of at least two patients must have been read")
    weights = pseudo.weights * n / pseudo.weights.sum()
    missed = weights[:, None] * pseudo.missed
    beta = np.stack([_root(x, pseudo.said[:, i], x[place].T @ missed[:, i], link) for i in range(k)], 1)
    mean, slope = _mean(x @ beta, link)
    scores = (x[:, :, None] * (pseudo.said - mean)[:, None, :]).reshape(n, d * k)
    residuals = (x[place][:, :, None] * pseudo.missed[:, None, :]).reshape(len(place), d * k)
    names, of = np.unique(patients, return_inverse=True)
    totals = np.zeros((len(names), d * k))
    np.add.at(totals, of, scores - scores.mean(0))
    np.add.at(totals, of[place], weights[:, None] * (residuals - np.average(residuals, axis=0, weights=weights)))
    bread = np.zeros((d * k, d * k))
    for i in range(k):
        bread[i::k, i::k] = np.linalg.inv(x.T @ (x * slope[:, i : i + 1]))
    return Estimate(beta, totals @ bread, n_read)


def _mean(eta: np.ndarray, link: Link) -> tuple[np.ndarray, np.ndarray]:
    """μ of the linear predictor, and its derivative."""
    if link == "identity":
        return eta, np.ones_like(eta)
    mu = 1 / (1 + np.exp(-eta))
    return mu, mu * (1 - mu)


def _root(x: np.ndarray, said: np.ndarray, missed: np.ndarray, link: Link) -> np.ndarray:
    """β (d,) of x' (said - μ) + missed = 0, by Newton's method; steps are halved while the likelihood falls."""

    def height(b: np.ndarray) -> float:
        eta = x @ b
        above = eta * eta / 2 if link == "identity" else np.logaddexp(0, eta)
        return float((said * eta - above).sum() + missed @ b)

    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        mean, slope = _mean(x @ beta, link)
        score = x.T @ (said - mean) + missed
        try:
            step = np.linalg.solve(x.T @ (x * slope[:, None]), score)
        except np.linalg.LinAlgError:
            break
        size, now = 1.0, height(beta)
        while height(beta + size * step) < now - 1e-9 * abs(now) and size > 1e-6:
            size /= 2
        beta = beta + size * step
        if np.abs(size * step).max() < SMALL * (1 + np.abs(beta).max()):
            return beta
        if np.abs(beta).max() > 1e6:
            break
    raise ValueError("no model solves the equation: too few readings for these terms, or two terms hold the same")


def mean(p: np.ndarray, answers: np.ndarray, patients: np.ndarray, read: Read) -> Estimate:
    """Mean of each outcome, values (1, k); arguments and errors as `pseudo_outcomes` and `solve`."""
    return solve(np.ones((len(p), 1)), pseudo_outcomes(p, answers, patients, read), patients)
