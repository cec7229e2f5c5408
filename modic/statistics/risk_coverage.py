"""How many levels get a sure grade, and how many of these are wrong, as a function of the risk alpha.

A grade is sure if the conformal set at alpha holds one type. The thresholds of the sets are quantiles of calibration
scores 1 - p_k, a step function of alpha for each type; a card holds them on a grid (`threshold_table`), so that another
alpha needs no new training. Between two points of the grid the smaller alpha serves: its sets cover at least as much.

Risk and coverage as in El-Yaniv & Wiener, J. Mach. Learn. Res. 11 (2010) 1605-1641: *coverage* is the share of levels
with a sure grade (here `sure`, as coverage also names the property of conformal sets), *risk* the share of these that
are wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modic.grading.classify import prediction_set, softmax
from modic.statistics.calibration import conformal_quantiles, fit_scaling

ALPHAS = tuple(round(0.01 * k, 2) for k in range(1, 51))
"""The grid of a card: one time in a hundred to one time in two."""
DRAWS = 100


def threshold_table(p: np.ndarray, labels: np.ndarray, alphas: Sequence[float] = ALPHAS) -> dict[str, list[Any]]:
    """`alpha` (m,) and `q` (m, 3): type k is in the set at alpha if 1 - p_k <= q_k.

    Args:
        p: float (n, 3), calibrated probabilities of discs that the network was not fitted on.
        labels: int (n,), their types.
    """
    q = [[round(value, 6) for value in conformal_quantiles(p, labels, alpha=alpha)] for alpha in alphas]
    return {"alpha": list(alphas), "q": q}


def sure_grades(p: np.ndarray, quantiles: Sequence[float] | np.ndarray) -> np.ndarray:
    """int (n,): the type of each set with one type, -1 for others."""
    sets = [prediction_set(row, np.asarray(quantiles, float)) for row in p]
    return np.array([one[0] if len(one) == 1 else -1 for one in sets], int)


def risk_coverage(
    p: np.ndarray, labels: np.ndarray, thresholds: dict[str, list[Any]], weights: np.ndarray | None = None
) -> list[dict[str, float | None]]:
    """One row an alpha: `alpha`, `sure`, `wrong` (of the sure), and of each type k that occurs `sure_mck`, `wrong_mck`.

    `wrong_mck` is the share of sure levels of true type k with another grade; None if no level is sure. `weights`: how
    many levels each stands for.
    """
    rows = []
    w = np.ones(len(labels)) if weights is None else weights
    for alpha, q in zip(thresholds["alpha"], thresholds["q"], strict=True):
        sure = sure_grades(p, q)
        row: dict[str, float | None] = {"alpha": alpha, **_yield_and_error(sure, labels, w, labels >= 0, "")}
        for k in np.unique(labels).tolist():
            row |= _yield_and_error(sure, labels, w, labels == k, f"_mc{k}")
        rows.append(row)
    return rows


def _yield_and_error(
    sure: np.ndarray, labels: np.ndarray, weights: np.ndarray, of: np.ndarray, name: str
) -> dict[str, float | None]:
    graded = of & (sure >= 0)
    share = float(weights[graded].sum() / weights[of].sum())
    wrong = float(np.average(sure[graded] != labels[graded], weights=weights[graded])) if graded.any() else None
    return {f"sure{name}": share, f"wrong{name}": wrong}


def held_out_curve(
    logits: np.ndarray, labels: np.ndarray, patients: Sequence[str], counted: np.ndarray,
    alphas: Sequence[float] = ALPHAS, draws: int = DRAWS,
) -> list[dict[str, float | None]]:  # fmt: skip
    """`risk_coverage` on patients that calibration did not see: the mean over `draws` halvings of the patients.

    Temperature and thresholds are fitted on one half of the patients, levels counted on the other.

    Args:
        logits: float (n, 3), out of fold.
        counted: bool (n,), which levels are counted. All calibrate: painted lesions type 1, though they are no levels.
    """
    names, rng, drawn = sorted(set(patients)), np.random.default_rng(0), []
    for _ in range(draws):
        half = set(rng.permutation(names)[: len(names) // 2].tolist())
        fitted = np.array([patient in half for patient in patients])
        temperature, shift = fit_scaling(logits[fitted], labels[fitted])
        p = softmax((logits + shift) / temperature)
        table = threshold_table(p[fitted], labels[fitted], alphas)
        test = ~fitted & counted
        drawn.append(risk_coverage(p[test], labels[test], table))
    return [_mean_row([rows[i] for rows in drawn]) for i in range(len(alphas))]


def _mean_row(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    means: dict[str, float | None] = {}
    for name in names:
        known = [value for row in rows if (value := row.get(name)) is not None]
        means[name] = round(float(np.mean(known)), 4) if known else None
    return means
