"""Grades imputed with the errors of a validation elsewhere: near the truth where nobody read, refused where blind."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.imputation import AsGraded, read_elsewhere, simulate

import modic
from made_cohort import RUN, as_tables, make_rows
from modic.analysis.elsewhere import impute_elsewhere
from modic.errors import UsageError
from modic.grades import P
from modic.tables.store import publish

PATIENTS = 500


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A cohort that nobody read, and readings of another, in which changes are more frequent."""
    return simulate(np.random.default_rng(21), PATIENTS), read_elsewhere(np.random.default_rng(22), 1200)


def difference(found: pd.DataFrame) -> tuple[float, float, float]:
    row = found.set_index("term").loc["weak"]
    return row["difference"], row["low"], row["high"]


def test_shares_and_differences_come_nearer_to_the_truth(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, readings = cohort
    imputed = impute_elsewhere(frame, readings, m=6)
    changed = frame["truth"] > 0
    of_patients = changed.groupby(frame["patient_key"]).any().mean()
    for unit, truth in (("levels", changed.mean()), ("patients", of_patients)):
        row = imputed.prevalence(unit=unit).set_index("grade").loc["MC1 or MC2"]
        raw = AsGraded(frame).prevalence((), unit=unit).set_index("grade").loc["MC1 or MC2", "share"]
        assert row["low"] < truth < row["high"] and abs(row["share"] - truth) < 0.6 * abs(raw - truth)
    _, low, high = difference(imputed.association("any_mc ~ weak", scale="difference"))
    _, raw_low, _ = difference(
        AsGraded(frame.assign(any_mc=frame["mc"] > 0)).association("any_mc ~ weak", scale="difference")
    )
    assert low < 0 < high and raw_low > 0, "the worse scanner makes no changes"
    assert imputed.n_read == len(readings) and imputed.observed["mc"].isna().all()
    with pytest.raises(UsageError, match="read 0 levels at two visits"):
        imputed.changes()


def test_the_same_seed_draws_the_same_grades_and_levels_without_a_grade_are_drawn(
    cohort: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    frame, readings = cohort
    frame = frame.assign(level_status=np.where(frame.index < 6, "not_found", "graded"))
    one, same, other = (impute_elsewhere(frame, readings, m=2, seed=seed).long()["mc"] for seed in (1, 1, 2))
    assert one.equals(same) and not one.equals(other) and one[len(frame) :].notna().all()


def test_a_confusion_matrix_serves_where_errors_are_alike(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    rng = np.random.default_rng(3)
    rows = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.6, 0.2]])
    truth = cohort[0]["truth"].to_numpy()
    said = (rng.random((len(truth), 1)) > rows[truth].cumsum(1)).sum(1).clip(0, 3)
    frame = cohort[0].assign(mc=pd.array(np.where(said == 3, np.nan, said), "Float64").astype("Int8"))
    row = impute_elsewhere(frame, 300 * rows, m=5).prevalence().set_index("grade").loc["MC2"]
    assert row["low"] < (truth == 2).mean() < row["high"] and row["high"] - row["low"] < 0.12
    with pytest.raises(UsageError, match="has abstained levels, the validation elsewhere has none"):
        impute_elsewhere(frame, 300 * rows[:, :3], m=2)
    with pytest.raises(UsageError, match="no reading of MC1"):
        impute_elsewhere(frame, 300 * rows * [[1], [0], [1]], m=2)


def test_too_few_readings_are_refused(cohort: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    frame, readings = cohort
    with pytest.raises(UsageError, match="holds 40 readings; 100 are needed"):
        impute_elsewhere(frame, readings.head(40), m=2)
    with pytest.raises(UsageError, match="no reading of MC1"):
        impute_elsewhere(frame, readings[readings["truth"] != 1], m=2)


def test_another_cohorts_validation_is_read_with_what_is_known_of_its_patients(tmp_path: Path) -> None:
    for name in ("here", "there"):
        publish(tmp_path / name, as_tables(make_rows(120)), RUN)
    there, here = modic.open(tmp_path / "there"), modic.open(tmp_path / "here")
    levels = there.graded(visits="all")
    readings = levels[["study_key", "level", "patient_key"]].assign(predicted=levels["mc"], weight=1.0, blind=True)
    readings = readings.assign(level=levels["level"].astype("string"), truth=levels[P].to_numpy(float).argmax(1))
    (tmp_path / "there/validation").mkdir()
    readings.to_parquet(tmp_path / "there/validation/readings.parquet")
    where = tmp_path / "there/validation"
    about = there.studies[["study_key", "age_years", "sex", "field_strength_t"]]
    by_folder = here.imputed(2, elsewhere=True, validation=where).long()["mc"]
    assert by_folder.equals(
        here.imputed(2, elsewhere=True, validation=readings.merge(about, on="study_key")).long()["mc"]
    )
    found = here.association("mc2 ~ age_years", method="elsewhere", validation=where, m=2)
    assert found["term"].tolist() == ["age_years"] and found["n_read"].iloc[0] == len(readings)
    assert "400 levels read in another cohort" in found.attrs["simulated"]
    with pytest.raises(UsageError, match="validation names the place that was read"):
        here.imputed(2, elsewhere=True)
