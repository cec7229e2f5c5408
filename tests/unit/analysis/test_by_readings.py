"""Answers from readings of whole patients, and changes between visits: near the truth where grades as they are err."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyreadstat
import pytest
from benchmarks.imputation import (
    CHANGE,
    AsGraded,
    ByReadings,
    FromImputed,
    first,
    read,
    read_patients,
    simulate,
    with_old,
)

from modic.analysis.by_readings import association, changes
from modic.analysis.corrected import corrected_prevalence
from modic.analysis.imputed import PAIRS, Imputed, impute
from modic.analysis.mi_files import check_names, write_mi
from modic.analysis.visits import pairs_of
from modic.errors import UsageError
from modic.grades import GRADES

PATIENTS, READ = 600, 150


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two visits of each patient, and readings of whole patients at both."""
    frame = with_old(simulate(np.random.default_rng(4), PATIENTS, 2))
    return frame, read_patients(0, frame, READ)


def shares(found: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    return {(r["before"], r["after"]): (r["share"], r["low"], r["high"]) for r in found.to_dict("records")}


@pytest.mark.parametrize("method", ["imputed", "readings"])
def test_changes_between_visits_are_not_those_of_the_grader(
    cohort: tuple[pd.DataFrame, pd.DataFrame], method: str
) -> None:
    frame, readings = cohort
    ask = FromImputed(impute(frame, readings, m=5)) if method == "imputed" else ByReadings(frame, readings)
    answer = ask.changes()
    found, naive = shares(answer), shares(AsGraded(frame).changes())
    assert (answer["n_levels"] == 6 * PATIENTS).all() and (answer["median_days_between"] == 1461).all()
    assert (answer["n_read"] == 12 * READ / 2).all()
    for before in (0, 2):  # MC1 is too rare here
        stayed = (GRADES[before], GRADES[before])
        value, low, high = found[stayed]
        assert low <= CHANGE[before, before] <= high and high - low < 0.25
        assert abs(value - CHANGE[before, before]) < 0.5 * abs(naive[stayed][0] - CHANGE[before, before])
    assert sum(found[GRADES[0], after][0] for after in GRADES) == pytest.approx(1, abs=0.01)


def test_changes_need_levels_read_at_both_visits(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, readings = cohort
    one = readings[readings["study_key"].str.endswith("-0")]
    imputed = impute(frame, one, m=2)
    assert imputed.n_pairs == 0 < PAIRS
    with pytest.raises(UsageError, match=r"read 0 levels at two visits.*--by patient --visits all"):
        imputed.changes()
    with pytest.raises(UsageError, match="--by patient --visits all"):
        changes(frame, one)
    with pytest.raises(UsageError, match=r'cohort\.imputed\(visits="all"\)'):
        impute(frame, readings, m=2).only(pd.Index(first(frame)["study_key"])).changes()


def test_of_a_grade_that_hardly_any_reader_saw_a_change_is_not_sure(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, readings = cohort
    without = readings.groupby("patient_key")["truth"].transform("max") == 0
    three = readings["patient_key"].isin(readings["patient_key"][without].unique()[:2])
    with_one = readings["patient_key"].isin(readings["patient_key"][readings["truth"] == 2].unique()[:1])
    few, none = changes(frame, readings[three | with_one]), changes(frame, readings[three])
    seen_none = none[none["before"] != "MC0"]
    assert seen_none["share"].isna().all() and (seen_none["high"] - seen_none["low"] == 1).all()
    row = few[(few["before"] == "MC2") & (few["after"] == "MC2")].iloc[0]
    assert row["low"] < CHANGE[2, 2] < row["high"] and row["high"] - row["low"] > 0.4


@pytest.mark.parametrize(("truth", "how_many"), [(0, "none"), (2, "all")])
def test_without_a_reading_of_each_outcome_there_is_no_association(
    cohort: tuple[pd.DataFrame, pd.DataFrame], truth: int, how_many: str
) -> None:
    frame, readings = cohort
    with pytest.raises(UsageError, match=f"readers saw mc2 on {how_many} of the"):
        association(frame, readings[readings["truth"] == truth], "mc2 ~ age_years", scale="odds ratio")


@pytest.mark.parametrize("name", ["BMI (kg)", "1st", "if", "x" * 33])
def test_a_covariate_that_stata_cannot_name_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    frame = simulate(np.random.default_rng(0), 3, 1).assign(**{name: 1.0})
    with pytest.raises(UsageError, match=r"Stata has no variable named.*rename"):
        write_mi(Imputed((frame, frame), 0, frame), tmp_path, data=(name,))
    assert not list(tmp_path.iterdir())


def test_what_modic_link_writes_beside_the_keys_is_no_second_column(tmp_path: Path) -> None:
    frame = simulate(np.random.default_rng(0), 3, 1)
    write_mi(Imputed((frame, frame), 0, frame), tmp_path, data=("days_since_first_study", "trait"))
    assert {"days_since_first_study", "trait"} <= set(pq.read_schema(tmp_path / "imputed.parquet").names)


def test_umlauts_are_letters() -> None:
    check_names(["größe", "_x", "x" * 32])


def test_pairs_are_of_the_first_and_last_day() -> None:
    frame = simulate(np.random.default_rng(0), 3, 3)
    frame.loc[frame["study_key"] == "s000001-2", "days_since_first_study"] = 0  # the same day as the first
    frame.loc[frame["study_key"] == "s000002-0", "days_since_first_study"] = np.nan
    pairs = pairs_of(frame).drop_duplicates("patient_key").set_index("patient_key")
    assert pairs["study_key_before"].to_dict() == {
        "p000000": "s000000-0",
        "p000001": "s000001-0",
        "p000002": "s000002-1",
    }
    assert pairs["study_key_after"].to_dict() == {
        "p000000": "s000000-2",
        "p000001": "s000001-1",
        "p000002": "s000002-2",
    }
    assert pairs["days_between"].tolist() == [2922, 1461, 1461]


def test_odds_ratios_and_differences_by_readings(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, _ = cohort
    one = first(frame)
    readings = read(np.random.default_rng(1), one, 1200)
    found = association(one, readings, "mc2 ~ age_years + trait", scale="odds ratio").set_index("term")
    assert found.loc["age_years", "low"] < 1.04 < found.loc["age_years", "high"] < 1.08
    assert (found["n_levels"] == len(one)).all() and (found["n_read"] == len(readings)).all()
    difference = association(one, readings, "mc2 ~ trait", scale="difference").set_index("term").loc["trait"]
    true = one.groupby("trait")["truth"].apply(lambda t: (t == 2).mean())
    assert difference["low"] < true[1] - true[0] < difference["high"]
    with pytest.raises(UsageError, match="is not one of mc0, mc1, mc2, any_mc"):
        association(one, readings, "confidence ~ trait", scale="difference")
    with pytest.raises(UsageError, match="scale is odds ratio or difference"):
        association(one, readings, "mc2 ~ trait", scale="risk")


def test_imputed_files_open_in_their_programs_as_their_guide_says(
    cohort: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    frame, readings = cohort
    imputed = impute(frame.assign(secret="x"), readings, m=2, covariates=("trait",))
    said = write_mi(imputed, tmp_path, data=("trait",))
    assert "7,200 levels, 2 imputations" in said[0]
    stata, about = pyreadstat.read_dta(str(tmp_path / "imputed.dta"))
    table = pq.read_table(tmp_path / "imputed.parquet").to_pandas()
    assert len(stata) == len(table) == 3 * len(frame) and "secret" not in stata and "trait" in stata
    for data in (stata, table):
        of = data.groupby("imputation")
        assert of["row"].apply(lambda rows: sorted(rows) == list(range(1, len(frame) + 1))).all()
        assert of["mc"].count().to_dict() == {0: len(readings), 1: len(frame), 2: len(frame)}
        one = data[data["imputation"] == 1]
        assert one["patient"].is_monotonic_increasing
        same = data[data["imputation"] == 0].set_index("row")["mc"].dropna()
        assert (one.set_index("row")["mc"][same.index] == same).all(), "what was read is not imputed"
    assert about.column_names_to_labels["mc"].startswith("true Modic type")
    guide = (tmp_path / "imputed.md").read_text()
    assert "mi import flong, m(imputation) id(row)" in guide and 'haven::read_dta("imputed.dta")' in guide
    assert "T12/L1, L1/L2, L2/L3, L3/L4, L4/L5, L5/S1 are 1 to 6" in guide


def test_two_readers_who_agree_know_no_more_than_one(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, readings = cohort
    graded = frame.drop_duplicates(["patient_key", "level"]).reset_index(drop=True)
    known = readings.merge(graded[["study_key", "level", "mc", "patient_key"]].rename(columns={"mc": "predicted"}))
    twice = pd.concat([known, known.assign(reader="B")], ignore_index=True)
    one, two = (corrected_prevalence("rogan-gladen", graded, some) for some in (known, twice))
    assert one.n_read == two.n_read == len(known)
    for name in ("share", "low", "high"):
        assert getattr(two, name) == pytest.approx(getattr(one, name))
