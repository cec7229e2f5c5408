"""Whole patients for readers: who is drawn, with which weight, what their readings say, and how many are needed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from made_cohort import RUN, as_tables, make_rows
from modic.cli.main import main
from modic.errors import UsageError
from modic.grades import P
from modic.reader_study import readings_needed as planning
from modic.reader_study import sample as sampling
from modic.reader_study.sample import draw, readable_units
from modic.reader_study.validation import validate
from modic.records import LEVELS
from modic.statistics import metric_tables
from modic.statistics.patient_shares import OUTCOMES, patient_shares, patients_of
from modic.tables.described import write_rows
from modic.tables.store import publish

ANY = list(OUTCOMES).index("MC1 or MC2")


def disc(patient: int, visit: int, level: str, mc: int | None = 0, **more: Any) -> dict[str, Any]:
    study = f"s_{patient:04d}_{visit}"
    row = {"study_key": study, "patient_key": f"p_{patient:04d}", "level": level, "mc": mc, "case": {}}
    return row | {"days_since_first_study": 100 * visit, "p_mc0": 0.8, "p_mc1": 0.1, "p_mc2": 0.1} | more


def discs(patients: int) -> list[dict[str, Any]]:
    """Two visits each; every tenth patient has MC1 at L4/L5, every fourth other one MC2, every third abstains."""
    rows = []
    for patient in range(patients):
        grade = 1 if patient % 10 == 0 else 2 if patient % 4 == 0 else None if patient % 3 == 0 else 0
        for visit in (1, 0):
            rows += [disc(patient, visit, level, grade if level == "L4/L5" else 0) for level in LEVELS]
    return rows


def test_a_patient_is_drawn_with_all_discs_of_the_first_study_by_the_rarest_grade() -> None:
    units = readable_units(discs(120), ["patient", "grade"])
    assert len(units) == 120 and all(len(unit) == 6 and unit[0]["study_key"].endswith("_0") for unit in units)
    drawn = draw(units, 20, ["patient", "grade"], 0)
    of_stratum = pd.DataFrame(drawn).groupby("stratum")
    assert of_stratum["patient_key"].nunique().to_dict() == {"MC0": 5, "MC1": 5, "MC2": 5, "abstained": 5}
    assert of_stratum["weight"].first()["MC1"] == 12 / 5 and of_stratum.size()["MC1"] == 30
    assert sum(row["weight"] for row in drawn if row["level"] == "L5/S1") == pytest.approx(120)
    assert {row["unit"] for row in drawn} == {"patient"}
    assert draw(units[::-1], 20, ["patient", "grade"], 0) == drawn


def test_all_visits_are_drawn_if_wanted_and_patients_without_every_image_are_not() -> None:
    rows = discs(10)
    rows[3]["case"] = None  # patient 0, second visit
    assert [len(unit) for unit in readable_units(rows, ["patient"], "all")] == [12] * 9
    assert len(readable_units(rows, ["patient"], "first")) == 10
    assert len(readable_units(rows, ["level"])) == 119
    with pytest.raises(UsageError, match="a whole patient has all levels"):
        draw(readable_units(rows, ["patient"]), 5, ["patient", "level"], 0)
    with pytest.raises(UsageError, match=r"--by colour: a sample is drawn by level, .*patient"):
        draw(readable_units(rows, ["patient"]), 5, ["patient", "colour"], 0)


def simulated(rng: np.random.Generator, patients: int) -> pd.DataFrame:
    """Levels that are alike within a patient, a model that errs, and abstains when it is unsure."""
    of = np.repeat(np.arange(patients), 6)
    own = rng.normal(0, 1, patients)[of]
    odds = np.exp(np.column_stack([np.zeros(len(of)), -3.4 + 0.5 * own, -2.0 + own]))
    truth = (rng.random((len(of), 1)) > (odds / odds.sum(1, keepdims=True)).cumsum(1)).sum(1).clip(0, 2)
    p = np.exp(2 * np.eye(3)[truth] + 1.5 * rng.normal(size=(len(of), 3)))
    p /= p.sum(1, keepdims=True)
    mc = pd.array(p.argmax(1), "Int8")
    mc[p.max(1) < 0.6] = pd.NA
    keys = [f"p_{i:05d}" for i in of]
    frame = pd.DataFrame(
        {"study_key": [k.replace("p", "s") for k in keys], "patient_key": keys, "mc": mc, "truth": truth}
    )
    return frame.assign(level=np.tile(LEVELS, patients), **{name: p[:, k] for k, name in enumerate(P)})


def read_whole(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Readings of n patients, drawn by `modic review --by patient,grade`."""
    rows = frame.assign(days_since_first_study=0, case=1).astype({"mc": object})
    rows["mc"] = rows["mc"].where(rows["mc"].notna(), None)
    drawn = draw(readable_units(rows.to_dict("records"), ["patient", "grade"]), n, ["patient", "grade"], seed)
    return pd.DataFrame(drawn).assign(reader="A", truth=lambda f: f["truth"].astype("Int64"))


def test_shares_of_patients_cover_the_truth_though_the_model_and_the_strata_do_not() -> None:
    truth = simulated(np.random.default_rng(0), 100_000)
    true = (truth["truth"] > 0).to_numpy().reshape(-1, 6).any(1).mean()
    hits, raw = [], []
    for run in range(60):
        frame = simulated(np.random.default_rng([1, run]), 400)
        found = patient_shares(frame, read_whole(frame, 80, run))
        hits.append(found.low[ANY] <= true <= found.high[ANY])
        raw.append(found.share[ANY])
        assert found.n_read == 80 and found.n_not_whole == 0
    assert np.mean(hits) >= 0.88 and abs(np.mean(raw) - true) < 0.03  # of 60 runs, 0.88 is 2.5 deviations below 0.95
    naive = (frame["mc"] > 0).fillna(False).to_numpy(bool).reshape(-1, 6).any(1).mean()
    assert abs(naive - true) > 0.05


def test_patients_who_were_not_read_whole_are_left_out_and_readers_share_a_patient() -> None:
    frame = simulated(np.random.default_rng(5), 300)
    readings = read_whole(frame, 60, 0)
    part = readings.copy()
    part.loc[part["patient_key"] == part["patient_key"].iloc[0], "truth"] = [pd.NA, 1, 0, 0, 0, 0]
    assert (patient_shares(frame, part).n_read, patient_shares(frame, part).n_not_whole) == (59, 1)
    twice = pd.concat([readings, readings.assign(reader="B")])
    assert patient_shares(frame, twice).share == pytest.approx(patient_shares(frame, readings).share)
    with pytest.raises(ValueError, match="modic review --by patient"):
        patient_shares(frame, readings.assign(unit="level"))


def test_what_the_model_says_of_a_patient_is_that_one_level_or_more_has_it() -> None:
    frame = simulated(np.random.default_rng(5), 50)
    patients = patients_of(frame)
    assert ((patients.p > 0) & (patients.p < 1)).all() and (patients.p[:, ANY] >= patients.p[:, :2].max(1) - 1e-9).all()
    sure = (frame["mc"] > 0).fillna(False).to_numpy(bool).reshape(-1, 6).any(1)
    assert ((patients.answers == "a sure change") == sure).all() and (patients.answers != "no change").any()


def test_validation_gives_shares_of_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_tables, "DRAWS", 20)
    rows = make_rows(graded=40)
    publish(tmp_path, as_tables(rows), RUN)
    graded = [row for row in rows["levels"] if row["status"] == "graded" and int(row["study_key"][2:], 16) % 2 == 0]
    by_key = {row["study_key"]: row for row in rows["studies"]}
    units = readable_units([by_key[row["study_key"]] | row | {"case": 1} for row in graded], ["patient", "grade"])
    drawn = draw(units, 12, ["patient", "grade"], 0)
    about = {name: drawn[0][name] for name in ("run_id", "classifier_id")}
    sample = [{name: (row | about)[name] for name in sampling.SAMPLE} for row in drawn]
    write_rows(sampling.sample_path(tmp_path, "a-1"), sample, sampling.SAMPLE)
    labels = tmp_path / "labels.csv"
    lines = [f"{row['study_key']},{row['level']},{int(row['level'] == 'L5/S1')},a-1" for row in drawn]
    labels.write_text("\n".join(["study_key,level,mc,sample_id", *lines]))
    tables = validate(tmp_path, [labels], tmp_path / "out")
    shown = next(table for table in tables if "patients, first graded study" in table.title)
    assert dict(shown.rows)["patients with it, MC1 or MC2"].startswith("1.00")
    metrics = pq.read_table(tmp_path / "out" / "metrics.parquet").to_pandas().set_index(["condition", "which"])
    assert metrics.loc[("corrected share", "MC1"), "n"].item() == 12
    assert "12 were drawn whole and read whole" in (tmp_path / "out" / "validation.md").read_text()
    readings = pq.read_table(tmp_path / "out" / "readings.parquet")
    assert set(readings["unit"].to_pylist()) == {"patient"}


@pytest.fixture
def cohort_of(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """600 patients, in place of those that a cohort holds."""
    frame = simulated(np.random.default_rng(9), 600)
    rows = frame.assign(days_since_first_study=0, case=1).astype({"mc": object})
    rows["mc"] = rows["mc"].where(rows["mc"].notna(), None)
    monkeypatch.setattr(planning, "graded_discs", lambda root: rows.to_dict("records"))
    return frame


def test_as_many_readings_as_planned_give_the_wanted_interval(cohort_of: pd.DataFrame) -> None:
    planned = planning.readings_needed(Path("unused"), by=["patient", "grade"], width=0.06)
    least, most = planned.needs["MC1 or MC2", 0.06]
    assert least is not None and most is not None and 40 < least < most < 400
    found = [patient_shares(cohort_of, read_whole(cohort_of, most, seed)) for seed in range(8)]
    half = np.mean([(one.high[ANY] - one.low[ANY]) / 2 for one in found])
    assert 0.045 < half < 0.065
    wider = planning.readings_needed(Path("unused"), by=["patient", "grade"])
    assert wider.needs["MC1 or MC2", 0.01] == (None, None), "600 patients are too few, even if all are read"
    levels = planning.readings_needed(Path("unused"), by=["level", "grade"], width=0.02)
    assert levels.n_units == 3600 and levels.n_strata == 24 and levels.needs["MC1", 0.02][0] is not None
    assert "600 patients with images in 4 strata; 6.0 discs each" in wider.table().text()


def test_the_command_plans_and_draws_nothing(
    cohort_of: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", str(tmp_path), "--plan", "--by", "patient,grade", "--width", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "patients to read for" in said and "± 5 %" in said and list(tmp_path.iterdir()) == []
    assert main(["review", str(tmp_path), "--plan", "--width", "5"]) == 2
    assert main(["review", str(tmp_path), "--sample", "5"]) == 2
    assert "--out DIR" in capsys.readouterr().err
