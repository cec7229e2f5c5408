"""What goes with Modic change: logistic models of levels, in which the levels of one patient may be alike."""

import re
import warnings

import numpy as np
import pandas as pd

from modic.errors import UsageError
from modic.statistics.intervals import Z

SMALL = 300
"""Up to so many patients, covariances are corrected for small samples."""


def odds_ratios(frame: pd.DataFrame, formula: str) -> pd.DataFrame:
    """Odds ratios with 95 % intervals from generalized estimating equations (Liang and Zeger 1986), patient as cluster.

    Args:
        frame: one row a level, with patient_key and what the formula names.
        formula: outcome (0 or 1) ~ terms, as statsmodels reads it: `mc2 ~ age_years + sex + C(level)`.

    Working correlation exchangeable; robust covariance, up to SMALL patients with the correction of Mancl and DeRouen
    (2001). One row a term: odds_ratio, low, high, p, and n_levels, n_patients and n_left_out (levels that lack a value)
    of the model. A model that errs in the outcome pulls odds ratios towards 1 where it errs alike in all groups; where
    it errs otherwise in some (another scanner, another age) it can make one. Raises UsageError with what is wrong.
    """
    from statsmodels.genmod.cov_struct import Exchangeable
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_estimating_equations import GEE
    from statsmodels.tools.sm_exceptions import ModelWarning

    plain = _plain(frame, formula)
    if plain.empty:
        raise UsageError(f"the model {formula!r} has no level with a grade and a value of everything that it names")
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
            f"the model {formula!r} cannot be fitted to {len(plain)} levels: in a group of one of its terms all or"
            f" none of them have the outcome, or two terms say the same; leave terms out or join groups ({error})"
        ) from error
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"the model {formula!r} cannot be fitted: {type(error).__name__}: {error}") from error
    low, high = (np.exp(fit.params + way * Z * fit.bse) for way in (-1, 1))
    found = pd.DataFrame({"odds_ratio": np.exp(fit.params), "low": low, "high": high, "p": fit.pvalues})
    found = found.drop(index="Intercept", errors="ignore").rename_axis("term").reset_index()
    n = int(fit.nobs)
    return found.assign(n_levels=n, n_patients=len(model.group_labels), n_left_out=len(frame) - n)


def _plain(frame: pd.DataFrame, formula: str) -> pd.DataFrame:
    """Rows that have every value of the formula, by patient, in types that its engine knows; no category is empty."""
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
