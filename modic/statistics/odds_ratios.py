"""Odds ratios of Modic change: logistic models of levels that allow for levels of one patient being alike."""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from modic.errors import UsageError
from modic.statistics.difference import Pseudo, solve
from modic.statistics.intervals import Z
from modic.text import counted

SMALL = 300
"""Largest number of patients for which the covariance is corrected for small samples."""
EXTREME = 15.0
"""Largest logit that a model of levels may give: one of 3 million. Beyond it some group has no outcome, or no other."""
GROUPS = 12
"""Most values of a column of text that looks like numbers which are taken for names of groups."""
INFINITE = "a term of {!r} is infinite for some levels, as the logarithm of 0 is"
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

    design = _designed(frame, formula, scale)
    y, n_patients = design.model.endog, design.rows["patient_key"].nunique()
    if not np.isin(y, (0, 1)).all():
        raise UsageError(f"the outcome of {formula!r} is not 0 or 1; take mc0, mc1, mc2 or any_mc")
    if len(design.names) >= n_patients:
        raise UsageError(
            f"the model {formula!r} has {counted(len(design.names), 'term')} for {counted(n_patients, 'patient')};"
            " join groups"
        )
    family = Binomial() if scale == "odds ratio" else Gaussian()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = GEE(y, design.x, design.rows["patient_key"].to_numpy(), family=family, cov_struct=Exchangeable())
            fit = model.fit(cov_type="bias_reduced" if n_patients <= SMALL else "robust", maxiter=100)
            if not (np.isfinite(fit.bse).all() and (fit.bse > 0).all()):
                raise RuntimeWarning("no standard error")
            if scale == "odds ratio" and np.abs(design.x @ fit.params).max() > EXTREME:
                raise RuntimeWarning("a probability of 0 or 1")
    except (RuntimeWarning, ModelWarning, np.linalg.LinAlgError) as error:
        raise UsageError(
            f"the model {formula!r} cannot be fitted to {len(y)} levels: in one group of a term all levels or none"
            f" have the outcome, or two terms hold the same; leave terms out or join groups ({error})"
        ) from error
    except Exception as error:
        raise UsageError(f"the model {formula!r} cannot be fitted: {type(error).__name__}: {error}") from error
    params, errors, p = (pd.Series(part, design.names) for part in (fit.params, fit.bse, fit.pvalues))
    terms = _terms(params, Z * errors, p, scale)
    return terms.assign(n_levels=len(y), n_patients=n_patients, n_left_out=len(frame) - len(y))


def read_odds_ratios(frame: pd.DataFrame, formula: str, *, scale: str = "odds ratio") -> pd.DataFrame:
    """The same from pseudo-outcomes, with an independent working correlation (modic.statistics.difference.solve).

    Args:
        frame: as of `odds_ratios`; besides, `said`, what the model says of the outcome, and of the levels that were
            read `missed` and `weight` (others null). The outcome's own column is not used.
        formula, scale: as of `odds_ratios`.

    Intervals are Student's (modic.statistics.difference). One row a term: as `odds_ratios`, and n_read. Raises
    UsageError if no model solves the equation, as with too few readings.
    """
    design = _designed(frame.assign(**{outcome_of(formula): frame["said"]}), formula, scale)
    rows = design.rows
    place = np.flatnonzero(rows["missed"].notna().to_numpy())
    weight, missed = (rows[name].to_numpy(float)[place] for name in ("weight", "missed"))
    pseudo = Pseudo(rows["said"].to_numpy(float)[:, None], missed[:, None], place, weight)
    patients = rows["patient_key"].to_numpy()
    try:
        found = solve(design.x, pseudo, patients, "logit" if scale == "odds ratio" else "identity")
    except (ValueError, np.linalg.LinAlgError) as error:
        raise UsageError(f"the model {formula!r} cannot be fitted to {counted(len(rows), 'level')}: {error}") from error
    (deviation, freedom), params = found.spread(), pd.Series(found.values[:, 0], design.names)
    p = 2 * stdtr(freedom, -np.abs((params / deviation).to_numpy()))
    terms = _terms(params, found.half()[:, 0], p, scale)
    counts = {"n_levels": len(rows), "n_patients": len(np.unique(patients)), "n_left_out": len(frame) - len(rows)}
    return terms.assign(**counts, n_read=len(place))


@dataclass(frozen=True, slots=True)
class _Design:
    """The rows that a model uses, and its matrices."""

    rows: pd.DataFrame
    model: Any

    @property
    def x(self) -> np.ndarray:
        """float (rows, terms)."""
        return np.asarray(self.model.exog)

    @property
    def names(self) -> list[str]:
        """Of the terms."""
        return list(self.model.exog_names)


def _designed(frame: pd.DataFrame, formula: str, scale: str) -> _Design:
    """Raises UsageError for an unknown scale or column, if no row is left, or if terms cannot be told apart."""
    from statsmodels.api import OLS

    plain = _plain(frame, formula, scale)
    try:
        with np.errstate(all="ignore"):
            model = OLS.from_formula(formula, plain)
    except Exception as error:
        raise UsageError(_why(formula, error)) from error
    if not np.isfinite(model.exog).all():
        raise UsageError(INFINITE.format(formula))
    x = model.exog / np.maximum(np.abs(model.exog).max(0), 1e-300)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise UsageError(
            f"two or more terms of {formula!r} hold the same: leave one out (cr(x, df=4) needs"
            " constraints='center' beside an intercept)"
        )
    return _Design(plain.loc[model.data.row_labels], model)


def _why(formula: str, error: Exception) -> str:
    """Why a formula cannot be read, in words."""
    if unknown := re.search(r"name '(\w+)' is not defined", str(error)):
        return f"the formula {formula!r} names {unknown[1]}, which is no column of the tables or of data"
    if "contains inf" in str(error):
        return INFINITE.format(formula)
    if not all(side.strip() for side in formula.partition("~")):
        return f"{formula!r} is no formula: outcome ~ terms, as in mc2 ~ age_years + C(level)"
    return f"the formula {formula!r} cannot be read: {str(error).splitlines()[0]}"


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
    named = [name for name in frame.columns if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", formula)]
    for name in named:
        check_values(frame[name])
    plain = frame.dropna(subset=named).sort_values("patient_key", kind="stable").reset_index(drop=True)
    for name in named:
        if name != outcome_of(formula) and len(plain) and plain[name].nunique() == 1:
            raise UsageError(f"{name} of {formula!r} is {plain[name].iloc[0]} for all levels; leave it out")
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


def check_values(column: pd.Series) -> None:
    """Raise UsageError for dates, and for numbers that are text, which a formula would take for groups."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise UsageError(f"{column.name} holds dates, which a formula would take for groups; make days or years of it")
    if pd.api.types.is_numeric_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
        return
    texts = column.dropna().drop_duplicates()
    numbers = pd.to_numeric(texts.astype("string").str.replace(",", "."), errors="coerce")
    if len(texts) <= GROUPS or 2 * numbers.notna().sum() <= len(texts):
        return
    would_be = f"which would be {len(texts)} groups"
    if numbers.isna().any():
        odd = texts[numbers.isna()].iloc[0]
        raise UsageError(f"{column.name} holds numbers and text ({odd!r}), {would_be}: leave empty what is no number")
    raise UsageError(
        f"{column.name} holds numbers as text ({texts.iloc[0]}), {would_be}:"
        f' data["{column.name}"].str.replace(",", ".").astype(float) makes numbers of it'
    )
