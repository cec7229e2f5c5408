"""Odds ratios of Modic change: logistic models of levels that allow for levels of one patient being alike."""

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from modic.errors import UsageError
from modic.statistics.difference import Pseudo, solve
from modic.statistics.intervals import Z

SMALL = 300
"""Largest number of patients for which the covariance is corrected for small samples."""


SCALES = {"odds ratio": "odds_ratio", "difference": "difference"}
"""What an association is measured in → the column that holds it. A difference is one of shares (0.05: 5 % more)."""


def odds_ratios(frame: pd.DataFrame, formula: str, *, scale: str = "odds ratio") -> pd.DataFrame:
    """Odds ratios with 95 % intervals from generalized estimating equations (Liang and Zeger 1986), patient as cluster.

    Args:
        frame: one row a level, with patient_key and the columns that the formula names.
        formula: outcome (0 or 1) ~ terms, in the language of statsmodels: `mc2 ~ age_years + sex + C(level)`.
        scale: `odds ratio`, or `difference` of shares (a linear model).

    The working correlation is exchangeable; the covariance is robust, for up to SMALL patients with the correction of
    Mancl and DeRouen (2001). One row a term: odds_ratio, low, high, p, and of the model n_levels, n_patients and
    n_left_out (levels that lack a value). Errors of the grades pull odds ratios towards 1 if they are equally frequent
    in all groups; if they are more frequent in some (another scanner, another age), they can create an association.
    Raises UsageError if the model cannot be fitted.
    """
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial, Gaussian
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import ModelWarning

    plain = _plain(frame, formula, scale)
    family = Binomial() if scale == "odds ratio" else Gaussian()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = GEE.from_formula(
                formula, "patient_key", plain, family=family, cov_struct=Exchangeable(), missing="drop"
            )
            if not np.isin(model.endog, (0, 1)).all():
                raise UsageError(f"the outcome of {formula!r} is not 0 or 1; take mc0, mc1, mc2 or any_mc")
            few = len(model.group_labels) <= SMALL
            fit = model.fit(cov_type="bias_reduced" if few else "robust", maxiter=100)
    except (RuntimeWarning, ModelWarning, np.linalg.LinAlgError) as error:
        raise UsageError(
            f"the model {formula!r} cannot be fitted to {len(plain)} levels: in one group of a term all levels or none"
            f" have the outcome, or two terms hold the same; leave terms out or join groups ({error})"
        ) from error
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"the model {formula!r} cannot be fitted: {type(error).__name__}: {error}") from error
    terms = _terms(fit.params, Z * fit.bse, fit.pvalues, scale)
    n = int(fit.nobs)
    return terms.assign(n_levels=n, n_patients=len(model.group_labels), n_left_out=len(frame) - n)


def read_odds_ratios(frame: pd.DataFrame, formula: str, *, scale: str = "odds ratio") -> pd.DataFrame:
    """The same from pseudo-outcomes, with an independent working correlation (modic.statistics.difference.solve).

    Args:
        frame: as of `odds_ratios`; besides, `said`, what the model says of the outcome, and of the levels that were
            read `missed` and `weight` (others null). The outcome's own column is not used.
        formula, scale: as of `odds_ratios`.

    Intervals are Student's (modic.statistics.difference). One row a term: as `odds_ratios`, and n_read. Raises
    UsageError if no model solves the equation, as with too few readings.
    """
    from statsmodels.api import OLS

    plain = _plain(frame.assign(**{outcome_of(formula): frame["said"]}), formula, scale)
    try:
        model = OLS.from_formula(formula, plain)
        place = np.flatnonzero(plain["missed"].notna().to_numpy())
        weight = plain["weight"].to_numpy(float)[place]
        missed = plain["missed"].to_numpy(float)[place, None]
        pseudo = Pseudo(plain["said"].to_numpy(float)[:, None], missed, place, weight)
        link = "logit" if scale == "odds ratio" else "identity"
        patients = plain["patient_key"].to_numpy()
        found = solve(np.asarray(model.exog), pseudo, patients, link)  # type: ignore[arg-type]
    except Exception as error:
        raise UsageError(f"the model {formula!r} cannot be fitted to {len(plain)} levels: {error}") from error
    (deviation, freedom), params = found.spread(), pd.Series(found.values[:, 0], model.exog_names)
    p = 2 * student.sf(np.abs(params / deviation), freedom)
    terms = _terms(params, found.half()[:, 0], p, scale)
    counts = {"n_levels": len(plain), "n_patients": len(np.unique(patients)), "n_left_out": len(frame) - len(plain)}
    return terms.assign(**counts, n_read=len(place))


def outcome_of(formula: str) -> str:
    """The word before `~`."""
    return formula.partition("~")[0].strip()


def _terms(params: pd.Series, half: Any, p: Any, scale: str) -> pd.DataFrame:
    """A row a term; `half` of its interval."""
    plain = np.exp if scale == "odds ratio" else np.asarray
    ends = {"low": plain(params - half), "high": plain(params + half)}
    terms = pd.DataFrame({SCALES[scale]: plain(params), **ends, "p": np.asarray(p)}, index=params.index)
    return terms.drop(index="Intercept", errors="ignore").rename_axis("term").reset_index()


def _plain(frame: pd.DataFrame, formula: str, scale: str) -> pd.DataFrame:
    """Rows with a value in every column of the formula, sorted by patient, in types that statsmodels knows.

    Raises UsageError for an unknown scale, or if no row is left.
    """
    if scale not in SCALES:
        raise UsageError(f"scale is {' or '.join(SCALES)}, not {scale!r}")
    named = [name for name in frame.columns if re.search(rf"\b{re.escape(name)}\b", formula)]
    plain = frame.dropna(subset=named).sort_values("patient_key", kind="stable").reset_index(drop=True)
    for name in plain.columns:
        kind = plain[name].dtype
        if isinstance(kind, pd.CategoricalDtype):
            plain[name] = plain[name].cat.remove_unused_categories()
        elif pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
            plain[name] = plain[name].astype("Float64").to_numpy(float, na_value=np.nan)
        elif pd.api.types.is_string_dtype(kind):
            plain[name] = plain[name].astype(object).where(plain[name].notna(), None)
    if plain.empty:
        raise UsageError(f"the model {formula!r} has no level with a grade and a value in each column that it names")
    return plain
