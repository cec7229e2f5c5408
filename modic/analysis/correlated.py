"""Grades of the levels of one study, drawn as alike as readers find them.

Readers find changes at several levels of one patient more often than the model of each level knows, so grades that are
drawn level by level give too many patients with any change, and too few with three. Here the levels of a study share a
normal effect u (a one-factor Gaussian copula, Joe, Dependence Modeling with Copulas, 2014, 3.10): a level has
at most grade k if √ρ u + √(1-ρ) e is at most Φ⁻¹(P(at most k)), e standard normal and its own. The probability of each
level alone stays as it is. Where readers read some levels of a study, u follows from these.
"""

import numpy as np
from scipy.special import log_ndtr, ndtri

RHO = np.arange(0, 0.91, 0.05)
"""The values of ρ among which is drawn."""
PRIOR = 0.15
"""Mean of the exponential prior of ρ: what studies of made-up cohorts show whose patients' effects (standard deviation
0.9 on the logit) are partly known from age and the other levels; few readings so cannot make levels very alike."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_PRIOR_OF_U = np.log(_WEIGHTS / _WEIGHTS.sum())
_FAR = 40.0  # of a standard normal variable, in the place of infinity


def draw_correlated(
    rng: np.random.Generator, p: np.ndarray, studies: np.ndarray, place: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """A grade (n,) for each row of probabilities (n, classes); rows of one of `studies` (n,) are alike.

    `place`, `truth` (r,): rows that were read, each once, and their grades, which stand.
    """
    names, of = np.unique(studies, return_inverse=True)
    limits = ndtri(np.clip(p.cumsum(1)[:, :-1], 1e-12, 1 - 1e-12))
    inside = np.column_stack([np.full(len(place), -_FAR), limits[place], np.full(len(place), _FAR)])
    row = np.arange(len(place))
    low, high = inside[row, truth], inside[row, truth + 1]
    rho = _draw_rho(rng, low, high, of[place])
    log_u = np.tile(_PRIOR_OF_U, (len(names), 1))
    np.add.at(log_u, of[place], _log_probability(low, high, rho))
    chance = np.exp(log_u - log_u.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    u = _NODES[(rng.random((len(names), 1)) > chance.cumsum(1)).sum(1).clip(0, len(_NODES) - 1)]
    value = np.sqrt(rho) * u[of] + np.sqrt(1 - rho) * rng.normal(size=len(p))
    drawn: np.ndarray = (value[:, None] > limits).sum(1)
    drawn[place] = truth
    return drawn


def _log_probability(low: np.ndarray, high: np.ndarray, rho: float) -> np.ndarray:
    """(r, nodes): of each grade read, given u at each node."""
    shift, scale = np.sqrt(rho) * _NODES, np.sqrt(1 - rho)
    a, b = ((limit[:, None] - shift) / scale for limit in (low, high))
    upper = a > 0  # the smaller tail of both is exact
    a, b = np.where(upper, -b, a), np.where(upper, -a, b)
    top, bottom = log_ndtr(b), log_ndtr(a)
    return np.asarray(top + np.log1p(-np.exp(np.minimum(bottom - top, -1e-12))))


def _draw_rho(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, of: np.ndarray) -> float:
    """ρ from its posterior, given the grades that were read."""
    _, of = np.unique(of, return_inverse=True)
    log = -RHO / PRIOR
    for i, rho in enumerate(RHO):
        total = np.tile(_PRIOR_OF_U, (of.max(initial=-1) + 1, 1))
        np.add.at(total, of, _log_probability(low, high, rho))
        top = total.max(1, keepdims=True)
        log[i] += (top[:, 0] + np.log(np.exp(total - top).sum(1))).sum()
    chance = np.exp(log - log.max())
    return float(rng.choice(RHO, p=chance / chance.sum()))
