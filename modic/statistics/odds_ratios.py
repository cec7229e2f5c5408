"""Odds ratios of Modic change: logistic models of levels that allow for levels of one patient being alike."""

import re
import warnings

import numpy as np
import pandas as pd

from modic.errors import UsageError
from modic.statistics.intervals import Z

SMALL = 300
"""Largest number of patients for which the covariance is corrected for small samples."""


def odds_ratios(frame: pd.DataFrame, formula: str) -> pd.DataFrame:
    """Odds ratios with 95 % intervals from generalized estimating equations (Liang and Zeger 1986), patient as cluster.

    Args:
        frame: one row a level, with patient_key and the columns that the formula names.
        formula: outcome (0 or 1) ~ terms, in the language of statsmodels: `mc2 ~ age_years + sex + C(level)`.

    The working correlation is exchangeable; the covariance is robust, for up to SMALL patients with the correction of
    Mancl and DeRouen (2001). One row a term: odds_ratio, low, high, p, and of the model n_levels, n_patients and
    n_left_out (levels that lack a value). Errors of the grades pull odds ratios towards 1 if they are equally frequent
    in all groups; if they are more frequent in some (another scanner, another age), they can create an association.
    Raises UsageError if the model cannot be fitted.
    """
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import ModelWarning

    plain = _plain(frame, formula)
    if plain.empty:
        raise UsageError(f"the model {formula!r} has no level with a grade and a value in each column that it names")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = GEE.from_formula(
                formula, "patient_key", plain, family=Binomial(), cov_struct=Exchangeable(), missing="drop"
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
    low, high = (np.exp(fit.params + way * Z * fit.bse) for way in (-1, 1))
    terms = pd.DataFrame({"odds_ratio": np.exp(fit.params), "low": low, "high": high, "p": fit.pvalues})
    terms = terms.drop(index="Intercept", errors="ignore").rename_axis("term").reset_index()
    n = int(fit.nobs)
    return terms.assign(n_levels=n, n_patients=len(model.group_labels), n_left_out=len(frame) - n)


def _plain(frame: pd.DataFrame, formula: str) -> pd.DataFrame:
    """Rows with a value in every column of the formula, sorted by patient, in types that statsmodels knows."""
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
    return plain
