"""Direct standardization: the shares that a cohort would show if its groups were as frequent as in a given population.

Weights of the population times shares of the groups (Rothman, Greenland, Lash, Modern Epidemiology, 3rd ed. 2008,
chapter 15).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modic.errors import UsageError

PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Standardized:
    """A share, its variance with patients as clusters, and units: used, and outside the groups of the population."""

    value: float
    variance: float
    n: int
    n_patients: int
    n_outside: int

    def counts(self) -> dict[str, int]:
        """The numbers of units."""
        return {"n": self.n, "n_patients": self.n_patients, "n_outside": self.n_outside}


def weights_of(population: pd.DataFrame, by: str | Sequence[str]) -> pd.Series:
    """Share of each group in the population; `population`: the columns `by`, and `people` (numbers or shares).

    Raises UsageError for a table of another form.
    """
    names = [by] if isinstance(by, str) else list(by)
    if missing := [name for name in (*names, PEOPLE) if name not in population]:
        raise UsageError(f"the population lacks {', '.join(missing)}; it needs {', '.join(names)} and {PEOPLE}")
    people = pd.to_numeric(population[PEOPLE], errors="coerce").astype("Float64").to_numpy(float, na_value=np.nan)
    of = _keys(population, names).assign(**{PEOPLE: people}).groupby(names)[PEOPLE].sum()
    if not (people >= 0).all() or of.sum() <= 0:
        raise UsageError(f"{PEOPLE} of the population must be numbers of people, or shares, none below 0")
    return of[of > 0] / of.sum()


def _keys(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The columns `names` as text, numbers alike whatever their type (30.0 is 30)."""

    def text(column: pd.Series) -> pd.Series:
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            return column.map("{:.12g}".format, na_action="ignore").astype("string")
        return column.astype("string")

    return frame[names].apply(text)


def hits_of(frame: pd.DataFrame, types: tuple[int, ...], unit: str) -> pd.DataFrame:
    """`frame` (one row a level, all decided) with the column hit; or a patient's first row, hit at any level."""
    hit = frame["mc"].isin(types).astype(float)
    if unit == "levels":
        return frame.assign(hit=hit)
    if unit != "patients":
        raise UsageError(f"unit is levels or patients, not {unit!r}")
    return frame.assign(hit=hit.groupby(frame["patient_key"]).transform("max")).drop_duplicates("patient_key")


def standardized_share(units: pd.DataFrame, weights: pd.Series, by: str | Sequence[str]) -> Standardized:
    """The standardized share of `units` (patient_key, hit, and the columns `by`).

    Raises UsageError if a group of the population has no unit.
    """
    names = [by] if isinstance(by, str) else list(by)
    if wrong := [name for name in names if name not in units]:
        raise UsageError(f"there is no column {', '.join(wrong)} to standardize by")
    keys = _keys(units, names)
    group = pd.Series(list(keys.itertuples(index=False, name=None)), units.index)
    of = {name if isinstance(name, tuple) else (name,): weight for name, weight in weights.items()}
    inside = group.isin(list(of))
    used, group = units[inside], group[inside]
    counts = group.value_counts()
    if empty := [" ".join(name) for name in of if name not in counts.index]:
        raise UsageError(
            f"the cohort has nobody of {', '.join(empty[:5])}; join groups of the population, or leave them out"
        )
    hit = used["hit"].to_numpy(float)
    weight = np.array([of[name] / counts[name] for name in group])
    mean = pd.Series(hit, used.index).groupby(group).transform("mean").to_numpy(float)
    patients = used["patient_key"].to_numpy()
    clusters, place = np.unique(patients, return_inverse=True)
    totals = np.bincount(place, weight * (hit - mean))
    m = len(clusters)
    variance = m / max(m - 1, 1) * float(totals @ totals)
    return Standardized(float(weight @ hit), variance, len(used), m, int((~inside).sum()))
