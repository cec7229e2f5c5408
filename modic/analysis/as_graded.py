"""How frequent each grade is as graded, not corrected for the model's errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from modic.analysis.groups import groups, typed
from modic.grades import CLASSES, PARTS
from modic.statistics.intervals import share_of_counts


def prevalence(frame: pd.DataFrame, by: str | Sequence[str], unit: str) -> pd.DataFrame:
    """`modic.analysis.cohort_data.CohortData.prevalence` of a frame of levels (RunTables.six_levels)."""
    frame["patient"] = pd.factorize(frame["patient_key"], sort=True)[0]  # numbers are sorted sooner than keys
    rows = []
    for group, members in groups(frame, by):
        counts = _Counts.of(members)
        rows += [{**group, "grade": grade, **_share(counts, types, unit)} for grade, types in PARTS.items()]
    return typed(pd.DataFrame(rows), frame, by)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of levels of some studies: (patients,), and `of_type` (CLASSES, patients)."""

    levels: np.ndarray
    graded: np.ndarray
    of_type: np.ndarray

    @classmethod
    def of(cls, members: pd.DataFrame) -> "_Counts":
        """`members`: one row a level."""
        _, patient = np.unique(members["patient"].to_numpy(), return_inverse=True)
        graded = (members["level_status"] == "graded").to_numpy(bool)
        mc = members["mc"].to_numpy(float, na_value=np.nan)
        masks = [np.ones(len(mc)), graded, *(mc == k for k in range(CLASSES))]
        levels, graded, *of_type = (np.bincount(patient, mask).astype(int) for mask in masks)
        return cls(levels, graded, np.array(of_type))


def _share(counts: _Counts, types: tuple[int, ...], unit: str) -> dict[str, Any]:
    """Share of levels (or patients) of one group with a grade of `types`, its interval, its bounds and its counts.

    Of patients, whatever was not graded is undecided too.
    """
    every, graded, hits = counts.levels, counts.graded, counts.of_type[list(types)].sum(0)
    unsure = graded - counts.of_type.sum(0)
    if unit == "patients":
        unsure = (graded > 0) & (hits == 0) & (counts.of_type.sum(0) < every)
        every, graded, hits, unsure = (np.minimum(of, 1).astype(int) for of in (every, graded, hits, unsure))
    n_all, n_hit, n_unsure = (int(of.sum()) for of in (graded, hits, unsure))
    interval = _of_patients_interval if unit == "patients" else _interval
    share, low, high = interval(hits, graded, unsure)
    return {
        "n": n_all - n_unsure,
        "n_hit": n_hit,
        "n_patients": np.count_nonzero(graded - unsure),
        "share": share,
        "low": low,
        "high": high,
        "n_abstained": n_unsure,
        "n_not_graded": int(every.sum()) - n_all,
        "share_at_least": n_hit / n_all if n_all else np.nan,
        "share_at_most": (n_hit + n_unsure) / n_all if n_all else np.nan,
    }


def _interval(hits: np.ndarray, graded: np.ndarray, unsure: np.ndarray) -> tuple[float, float, float]:
    """Share of the decided levels and its ends; of each patient, the number of levels."""
    decided = graded - unsure
    if not decided.any():
        return np.nan, np.nan, np.nan
    found = share_of_counts(hits, decided)
    return found.value, found.low, found.high


def _of_patients_interval(hits: np.ndarray, graded: np.ndarray, unsure: np.ndarray) -> tuple[float, float, float]:
    """Share of patients, if all are decided, and the ends of the interval between the shares that are possible."""
    if not graded.any():
        return np.nan, np.nan, np.nan
    least, most = share_of_counts(hits, graded), share_of_counts(hits + unsure, graded)
    return (np.nan if unsure.any() else least.value), least.low, most.high
