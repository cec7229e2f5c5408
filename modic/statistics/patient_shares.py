"""Shares of patients with a Modic change, from patients whose levels readers read whole (`modic review --by patient`).

A unit is a patient; a level that the model did not grade has no box to read, so an answer is about the graded levels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from modic.grades import PARTS, P
from modic.statistics.difference import Read, mean
from modic.statistics.prevalence import own_prevalence, student_bounds

OUTCOMES = {name: types for name, types in PARTS.items() if 0 not in types}
"""What a patient may have at one level or more → the types that count."""
SURE, UNSURE, NOTHING = "a sure change", "no sure change, an abstention", "no change"


@dataclass(frozen=True, slots=True)
class Patients:
    """The patients of a cohort: `keys` (n,), what the model says of each outcome `p` (n, outcomes), its `answers`."""

    keys: np.ndarray
    p: np.ndarray
    answers: np.ndarray
    n_levels: dict[str, int]  # study key → graded levels


@dataclass(frozen=True, slots=True)
class PatientShares:
    """Share of patients with each of OUTCOMES, 95 % interval (outcomes,), and how many patients it rests on."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_patients: int
    n_read: int
    n_not_whole: int  # patients of whom a reader gave some grades, but not of every graded level

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Share, low and high."""
        return self.share, self.low, self.high


def patients_of(graded: pd.DataFrame) -> Patients:
    """The patients of graded levels (study_key, patient_key, mc, p_mc0, …), one study each.

    The probability of a change at one level or more takes levels for independent and the model for calibrated at this
    cohort's own prevalence: the difference estimator corrects both.
    """
    p = own_prevalence(graded[P].to_numpy(float))
    without = np.column_stack([1 - p[:, list(types)].sum(1) for types in OUTCOMES.values()]).clip(1e-9, 1)
    keys, of = np.unique(graded["patient_key"].to_numpy(str), return_inverse=True)
    none = np.stack([np.bincount(of, column, len(keys)) for column in np.log(without).T], 1)
    mc = graded["mc"].astype("Int8")
    sure, open_ = (np.bincount(of, flag.to_numpy(bool, na_value=False), len(keys)) > 0 for flag in (mc > 0, mc.isna()))
    answers = np.where(sure, SURE, np.where(open_, UNSURE, NOTHING))
    return Patients(keys, 1 - np.exp(none), answers, graded["study_key"].astype(str).value_counts().to_dict())


def whole_readings(patients: Patients, readings: pd.DataFrame) -> tuple[Read, int]:
    """The patients that were drawn whole and read whole, and the number of those who were read in part.

    `readings`: study_key, patient_key, level, reader, truth (null: no grade), weight, unit. Readers of one patient
    share it: the truth is the share of them who saw the outcome.
    """
    drawn = readings[readings["unit"].fillna("").eq("patient")]
    drawn = drawn[drawn["study_key"].astype(str).isin(patients.n_levels) & drawn["truth"].notna()]
    by = drawn.groupby([drawn["patient_key"].astype(str), drawn["study_key"].astype(str), drawn["reader"].astype(str)])
    truth = drawn["truth"].astype("Int64")
    hits = pd.DataFrame({name: truth.isin(types) for name, types in OUTCOMES.items()}, index=drawn.index)
    one = hits.groupby([drawn[name].astype(str) for name in ("patient_key", "study_key", "reader")]).any()
    n = by["level"].nunique()
    whole = n.to_numpy() == np.array([patients.n_levels[study] for _, study, _ in n.index], int)
    given = one[whole].groupby(level="patient_key").mean()
    weight = drawn.groupby(drawn["patient_key"].astype(str))["weight"].first().reindex(given.index)
    place = np.searchsorted(patients.keys, given.index.to_numpy(str))
    some = n.index.get_level_values("patient_key").nunique()
    return Read(place, given.to_numpy(float), weight.to_numpy(float)), some - len(given)


def patient_shares(graded: pd.DataFrame, readings: pd.DataFrame) -> PatientShares:
    """The difference estimator over patients (modic.statistics.difference).

    Arguments as of `patients_of` and `whole_readings`. Raises ValueError if less than two patients were read whole.
    """
    patients = patients_of(graded)
    read, not_whole = whole_readings(patients, readings)
    if len(read.place) < 2:
        raise ValueError("readers read fewer than two whole patients: modic review --by patient draws them")
    found = mean(patients.p, patients.answers, patients.keys, read)
    share = found.values[0].clip(0, 1)
    low, high = student_bounds(found, share, read)
    return PatientShares(share, low, high, len(patients.keys), len(read.place), not_whole)
