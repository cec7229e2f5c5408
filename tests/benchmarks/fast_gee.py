"""`modic.statistics.odds_ratios.odds_ratios` of many patients, ten times as fast as statsmodels' loop over clusters.

For benchmarks that fit thousands of models; `check` raises AssertionError if it says anything else than the product.
"""

import numpy as np
import pandas as pd
from patsy import dmatrices

from modic.errors import UsageError
from modic.statistics.intervals import Z
from modic.statistics.odds_ratios import SCALES, odds_ratios

NAMED = ("patient_key", "mc1", "mc2", "any_mc", "age_years", "level", "trait", "idle", "weak")
"""What formulas of benchmarks may name."""


def fast(frame: pd.DataFrame, formula: str, *, scale: str = "odds ratio") -> pd.DataFrame:
    """The same terms, odds_ratio (or difference), low, high, n_levels, n_patients and n_left_out."""
    named = frame[[name for name in NAMED if name in frame]].dropna()
    plain = named.astype({name: float for name in named if name not in ("patient_key", "level")})
    y, x = dmatrices(formula, plain)
    names = x.design_info.column_names
    y, x = np.asarray(y)[:, 0], np.asarray(x)
    keys, of = np.unique(plain["patient_key"].to_numpy(str), return_inverse=True)
    n = np.bincount(of)
    beta, alpha, logit = np.zeros(x.shape[1]), 0.0, scale == "odds ratio"

    def sums(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(of, column) for column in values.T], 1)

    for _ in range(60):
        eta = x @ beta
        mu = 1 / (1 + np.exp(-eta)) if logit else eta
        root = np.sqrt(mu * (1 - mu)) if logit else np.ones(len(y))
        white, residual = x * (root if logit else 1.0 / root)[:, None], (y - mu) / root
        shared = alpha / (1 + (n - 1) * alpha)
        of_white, of_residual = sums(white), np.bincount(of, residual)
        score = sums(white * residual[:, None]) - (shared * of_residual)[:, None] * of_white
        try:
            bread = np.linalg.inv(white.T @ white - of_white.T @ (of_white * shared[:, None]))
        except np.linalg.LinAlgError as error:
            raise UsageError("in one group all levels or none have the outcome") from error
        step = bread @ score.sum(0)
        beta = beta + step
        square = (residual**2).sum()
        pairs = ((of_residual**2).sum() - square) / 2
        alpha = pairs / (square / (len(y) - len(beta))) / ((n * (n - 1) / 2).sum() - len(beta))
        if np.abs(step).max() < 1e-8:
            break
    half = Z * np.sqrt(np.diag(bread @ (score.T @ score) @ bread))
    back = np.exp if logit else np.asarray
    terms = pd.DataFrame(
        {"term": names, SCALES[scale]: back(beta), "low": back(beta - half), "high": back(beta + half)}
    )
    counts = {"n_levels": len(y), "n_patients": len(keys), "n_left_out": len(frame) - len(y)}
    return terms[terms["term"] != "Intercept"].reset_index(drop=True).assign(**counts)


def check(frame: pd.DataFrame, formula: str, scale: str) -> None:
    """Raise AssertionError if `fast` and the product differ by more than a thousandth of an interval's width."""
    ours, theirs = fast(frame, formula, scale=scale), odds_ratios(frame, formula, scale=scale)
    columns = [SCALES[scale], "low", "high"]
    a, b = (found.set_index("term")[columns] for found in (ours, theirs))
    a, b = (np.log(found) if scale == "odds ratio" else found for found in (a, b.loc[a.index]))
    gap = (a - b).abs().max(axis=1) / (b["high"] - b["low"])
    assert gap.max() < 1e-3, gap
