"""Grades imputed from readings: what was read stays, answers come nearer to the truth, questions need evidence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.fast_gee import fast
from benchmarks.imputation import AsGraded, read, simulate

import modic
from made_cohort import RUN, as_tables, make_rows
from modic.analysis.cohort_data import CohortData
from modic.analysis.imputed import Imputed, features, impute, pool, pool_shares, with_grades
from modic.errors import UsageError
from modic.grades import P
from modic.statistics.intervals import wilson
from modic.tables.store import publish

PATIENTS, READ = 500, 400


@pytest.fixture(scope="module")
def simulated() -> tuple[pd.DataFrame, pd.DataFrame, Imputed]:
    """A cohort, readings of some of its levels, and what is imputed from them."""
    rng = np.random.default_rng(11)
    frame = simulate(rng, PATIENTS)
    readings = read(rng, frame, READ)
    return frame, readings, impute(frame, readings, m=8, covariates=("trait",))


def test_levels_that_were_read_keep_their_reading(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed],
) -> None:
    frame, readings, imputed = simulated
    assert imputed.n_read == len(readings) and len(imputed.frames) == 8
    for one in imputed.frames:
        assert (one["mc"].iloc[readings.index].to_numpy(int) == readings["truth"].to_numpy()).all()
        assert one["mc"].notna().all() and len(one) == len(frame)
    assert not imputed.frames[0]["mc"].equals(imputed.frames[1]["mc"])


@pytest.mark.parametrize("unit", ["levels", "patients"])
def test_shares_come_nearer_to_the_truth_and_their_intervals_hold_it(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed], unit: str
) -> None:
    frame, _, imputed = simulated
    found = imputed.prevalence(unit=unit).set_index("grade")
    raw = AsGraded(frame).prevalence((), unit=unit).set_index("grade")
    changed = frame["truth"] > 0
    truth = changed.mean() if unit == "levels" else changed.groupby(frame["patient_key"]).any().mean()
    row = found.loc["MC1 or MC2"]
    assert abs(row["share"] - truth) < 0.5 * abs(raw.loc["MC1 or MC2", "share"] - truth)
    assert row["low"] < truth < row["high"] and row["high"] - row["low"] < 0.25
    assert row["n"] == (len(frame) if unit == "levels" else PATIENTS)


def test_the_same_seed_draws_the_same_grades(simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed]) -> None:
    frame, readings, _ = simulated
    one, same, other = (impute(frame, readings, m=2, seed=seed).long() for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, same)
    assert not one["mc"].equals(other["mc"]) and one["imputation"].tolist() == np.repeat([0, 1, 2], len(frame)).tolist()
    assert one.loc[one["imputation"] == 0, "mc"].notna().sum() == len(readings), "imputation 0 is what was read"


def test_rubins_rules() -> None:
    mean, low, high = pool(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5, 0.5]))
    total = 0.5 + (1 + 1 / 3) * 1.0
    freedom = 2 * (1 + 0.5 / (4 / 3)) ** 2
    assert mean == 2 and freedom == pytest.approx(3.78125)
    assert (high - low) / 2 == pytest.approx(2.842 * np.sqrt(total), rel=0.002)  # t of 3.78 degrees of freedom


def test_a_share_of_none_or_all_has_an_interval_within_0_and_1() -> None:
    assert pool_shares(np.ones(5), np.zeros(5), 50) == (1, pytest.approx(wilson(50, 50)[0]), 1)
    middle = pool_shares(np.full(5, 0.4), np.full(5, 0.24 / 60), 1000)
    assert middle[1:] == pytest.approx(wilson(24, 60))
    low = pool_shares(np.array([0.0, 0.02, 0.01]), np.full(3, 1e-3), 500)
    assert low[1] >= 0 and low[2] > 0.05


def test_what_is_missing_is_a_value_of_its_own_and_rows_keep_their_order() -> None:
    frame = simulate(np.random.default_rng(2), 30)
    frame.loc[:5, P] = np.nan
    frame.loc[6:11, "age_years"] = np.nan
    x = features(frame.assign(mc=frame["mc"]), ("trait",), later=np.zeros(len(frame), bool))
    assert np.isfinite(x).all() and x.shape[0] == len(frame) and np.allclose(x.std(0), 1)


def test_too_little_evidence_is_refused(simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed]) -> None:
    frame, readings, _ = simulated
    with pytest.raises(UsageError, match="readers read 40 of these levels; 100 are needed"):
        impute(frame, readings.head(40), m=2)
    with pytest.raises(UsageError, match="the same grade"):
        impute(frame, readings.assign(truth=0), m=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[CohortData, pd.DataFrame]:
    """A made-up cohort of 150 patients whose levels readers read as MC2 if P(MC2) is largest; and readings of half."""
    root = tmp_path_factory.mktemp("cohort")
    publish(root, as_tables(make_rows(300)), RUN)
    opened = modic.open(root)
    levels = opened.graded()
    read = levels[levels.index % 2 == 0]
    truth = read[P].to_numpy(float).argmax(1)
    return opened, read[["study_key", "level", "patient_key"]].assign(truth=truth, predicted=read["mc"], weight=2.0)


def test_an_association_is_corrected_or_asked_for_as_naive(cohort: tuple[CohortData, pd.DataFrame]) -> None:
    opened, readings = cohort
    with pytest.raises(UsageError, match=r"holds no validation.*naive=True"):
        opened.association("mc2 ~ age_years")
    naive = opened.association("mc2 ~ age_years", naive=True)
    found = opened.association("mc2 ~ age_years", validation=readings, m=3)
    assert found["term"].tolist() == naive["term"].tolist() == ["age_years"]
    assert found["n_levels"].iloc[0] > naive["n_levels"].iloc[0], "abstained and ungraded levels are drawn"


def test_own_covariates_are_joined_by_patient_or_study(cohort: tuple[CohortData, pd.DataFrame]) -> None:
    opened, readings = cohort
    patients = opened.studies["patient_key"].drop_duplicates()
    mine = pd.DataFrame({"patient_key": patients, "bmi": np.linspace(18, 40, len(patients))})
    found = opened.association("mc2 ~ bmi", data=mine, validation=readings, m=2)
    assert found["term"].tolist() == ["bmi"]
    assert "bmi" in opened.imputed(2, data=mine, validation=readings).frames[0]
    for wrong, why in (
        (mine.drop(columns="patient_key"), "needs a column study_key or patient_key"),
        (pd.concat([mine, mine]), "several rows for one patient_key"),
        (mine.rename(columns={"bmi": "sex"}), "rename them"),
    ):
        with pytest.raises(UsageError, match=why):
            opened.association("mc2 ~ bmi", data=wrong, naive=True)


def test_a_confusion_matrix_cannot_impute(cohort: tuple[CohortData, pd.DataFrame], tmp_path: Path) -> None:
    opened, _ = cohort
    cells = pd.DataFrame([(t, p, 10) for t in range(3) for p in range(3)], columns=["truth", "predicted", "n"])
    with pytest.raises(UsageError, match="not a confusion matrix"):
        opened.imputed(2, validation=cells)


def test_the_model_of_the_benchmarks_is_the_products(
    simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed], monkeypatch: pytest.MonkeyPatch
) -> None:
    imputed = replace(simulated[2], frames=simulated[2].frames[:2])
    ours = imputed.association("mc2 ~ age_years")
    monkeypatch.setattr("modic.analysis.imputed.odds_ratios", fast)
    pd.testing.assert_frame_equal(imputed.association("mc2 ~ age_years"), ours, rtol=1e-4, check_dtype=False)


def test_a_level_counts_once_however_many_read_it(simulated: tuple[pd.DataFrame, pd.DataFrame, Imputed]) -> None:
    frame, readings, _ = simulated
    twice = pd.concat([readings, readings])
    one, two = (impute(frame, known, m=2, covariates=("trait",)) for known in (readings, twice))
    assert one.n_read == two.n_read
    pd.testing.assert_frame_equal(one.long(), two.long())


def test_changes_of_a_rare_type_are_of_the_imputations_that_have_it() -> None:
    """One level has MC1 at first in two of three cohorts, and MC2 later; MC2 nobody has at first."""
    columns = {
        "patient_key": ["a", "a", "b", "b"], "study_key": ["a0", "a1", "b0", "b1"], "level": "L5/S1",
        "days_since_first_study": [0, 9, 0, 9],
    }  # fmt: skip
    frames = [with_grades(pd.DataFrame(columns), np.array(mc)) for mc in ([1, 2, 0, 0], [1, 2, 0, 0], [0, 2, 0, 0])]
    found = Imputed(tuple(frames), 99, frames[0], n_pairs=99).changes().set_index(["before", "after"])["share"]
    assert found["MC1"].tolist() == [0, 0, 1] and found["MC2"].isna().all()
    assert found["MC0"].tolist() == pytest.approx([5 / 6, 0, 1 / 6])
