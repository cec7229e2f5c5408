"""The same level at a patient's first and last graded study: what changed."""

import numpy as np
import pandas as pd

from modic.grades import CLASSES, GRADES, P

GRADES_BEFORE_AFTER = [(before, after) for before in range(CLASSES) for after in range(CLASSES)]


def in_time(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` (one row a level) with its studies of known date alone, each patient's in the order of time."""
    dated = frame[frame["days_since_first_study"].notna()]
    return dated.sort_values(["patient_key", "days_since_first_study", "study_key"], kind="stable")


def pairs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a level of a patient with several studies in `frame`: patient_key, level, days_between, and study_key, mc
    and the probabilities `…_before` (first) and `…_after` (last). Studies of one day are one visit: its first."""
    visits = in_time(frame).drop_duplicates(["patient_key", "days_since_first_study", "level"])
    of = visits.assign(level=visits["level"].astype("string")).groupby(["patient_key", "level"], sort=True)
    columns = ["study_key", "days_since_first_study", "mc", *(name for name in P if name in visits)]
    first, last = of[columns].nth(0), of[columns].nth(-1)
    keys = visits.assign(level=visits["level"].astype("string"))[["patient_key", "level"]]
    sides = [
        keys.join(side, how="inner").rename(columns={c: f"{c}_{when}" for c in columns})
        for side, when in ((first, "before"), (last, "after"))
    ]
    both = sides[0].merge(sides[1], on=["patient_key", "level"])
    both = both[both["study_key_before"] != both["study_key_after"]].reset_index(drop=True)
    days = both["days_since_first_study_after"] - both["days_since_first_study_before"]
    return both.drop(columns=[f"days_since_first_study_{when}" for when in ("before", "after")]).assign(
        days_between=days
    )


def change_rows(found: list[tuple[float, float, float]], pairs: pd.DataFrame, **more: int) -> pd.DataFrame:
    """One row a grade before and after: `share` of the levels with `before` that have `after` later, low, high, the
    numbers of levels seen twice and of their patients, and the median of the days between."""
    names = [(GRADES[before], GRADES[after]) for before, after in GRADES_BEFORE_AFTER]
    rows = [{"before": b, "after": a, "share": s, "low": low, "high": high}
            for (b, a), (s, low, high) in zip(names, found, strict=True)]  # fmt: skip
    days = float(pairs["days_between"].median()) if len(pairs) else np.nan
    about = {"n_levels": len(pairs), "n_patients": pairs["patient_key"].nunique(), "median_days_between": days}
    return pd.DataFrame(rows).assign(**about, **more)
