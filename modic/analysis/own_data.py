"""Columns of a user's own table beside those of the cohort's."""

import pandas as pd

from modic.errors import UsageError
from modic.statistics.odds_ratios import check_values


def joined(frame: pd.DataFrame, data: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """`frame` with the columns of a user's `data`, by study_key or patient_key, and their names."""
    if data is None:
        return frame, []
    if not isinstance(data, pd.DataFrame):
        raise UsageError(
            f"data is a {type(data).__name__}; give a pandas DataFrame (pd.read_csv of what modic link wrote)"
        )
    key = next((name for name in ("study_key", "patient_key") if name in data and data[name].notna().all()), None)
    if key is None:
        raise UsageError("data needs a column study_key or patient_key without gaps (modic link makes them)")
    added = [name for name in data.columns if name not in ("study_key", "patient_key", "days_since_first_study")]
    if taken := [name for name in added if name in frame.columns]:
        raise UsageError(f"data has columns that the tables have too: {', '.join(taken)}; rename them")
    if data[key].duplicated().any():
        raise UsageError(f"data has several rows for one {key}; keep one, or join by study_key")
    right = data[[key, *added]].astype({key: frame[key].dtype})
    if not right[key].isin(frame[key]).any():
        raise UsageError(
            f"no {key} of data is one of this cohort ({right[key].iloc[0] if len(right) else 'no rows'}; here they look"
            f" like {frame[key].iloc[0] if len(frame) else 'nothing'}): modic link gives the keys of your own table"
        )
    return frame.merge(right, on=key, how="left"), added


def covariates(frame: pd.DataFrame, data: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """The same, of columns that a model can take; raises UsageError for dates, and for numbers that are text."""
    found, added = joined(frame, data)
    for name in added:
        try:
            check_values(found[name])
        except UsageError as error:
            raise UsageError(f"{error}, or leave {name} out of data") from error
    return found, added
