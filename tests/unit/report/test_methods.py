"""Methods paragraph and flow diagram: weights really used, every exclusion, the local validation, archives."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from made_cohort import RUN, as_tables, key, levels, make_rows, run, study
from modic.report.flow_diagram import steps
from modic.report.page import gather, methods_text
from modic.tables.query import connect, rows_of
from modic.tables.store import publish

EARLIER = "20250101T000000Z-0000"


def two_archives() -> dict[str, list[dict[str, Any]]]:
    """Twelve studies of archive 1 and four of archive 2, which the last run read; two graders."""
    rows = make_rows(13)
    for number, row in enumerate(rows["studies"]):
        row["archive"] = 1 if number < 12 else 2
    for row in rows["levels"]:
        row["classifier_id"] = "ffffffffffff" if row["study_key"] == key("s", 0) else row["classifier_id"]
    rows["runs"] = [
        run(rows["studies"], run_id=EARLIER, archive=1, files_seen=5000, files_read=4940, files_unchanged=0),
        run(rows["studies"], archive=2),
    ]
    return rows


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    publish(tmp_path, as_tables(two_archives()), RUN)
    return tmp_path


def test_the_methods_name_weights_exclusions_and_archives(cohort: Path) -> None:
    text = methods_text(gather(cohort))
    assert "classifier ffffffffffff (1 studies)" in text and "classifier ba9876543210 (12 studies)" in text
    assert "All 6,000 files of the 2 archives were accounted for; 120 were not usable MR images." in text
    assert "archive 1 (12), archive 2 (4)" in text
    for reason in ("study.no_sagittal_t1 (1)", "study.little_overlap (1)", "study.worker_died (1)"):
        assert reason in text
    assert "level.not_detected (13)" in text and "No reader validated the grades" in text


def test_the_methods_name_the_local_validation(cohort: Path) -> None:
    folder = cohort / "validation"
    folder.mkdir()
    graded = [row for n in range(4) for row in levels(n) if row["status"] == "graded"]
    frame = pd.DataFrame(graded)[["study_key", "patient_key", "level"]].assign(truth=0, reader="Dr. Who", weight=1.0)
    frame = frame.assign(predicted=0, sample_id="a-1", unit="patient").astype({"truth": "Int64"})
    frame.loc[0, "truth"] = pd.NA
    frame.to_parquet(folder / "readings.parquet")
    metrics = {
        "group": "all readers",
        "condition": "where a grade was given",
        "metric": "Cohen's kappa",
        "which": "all",
    }
    pd.DataFrame([metrics | {"value": 0.61, "low": 0.5, "high": 0.7}]).to_parquet(folder / "metrics.parquet")
    text = methods_text(gather(cohort))
    assert (
        "1 reader graded 19 discs of 2 patients (19 readings, 19 of them of a stratified random sample, with whole"
        in text
    )
    assert "Cohen's kappa with the grades given was 0.61 (95 % interval 0.50 to 0.70)" in text and "Who" not in text
    again = frame.assign(repeat=True, reference=False)
    pd.concat([frame.assign(repeat=False, reference=True), again]).to_parquet(folder / "readings.parquet")
    metrics["group"] = "all readers, disagreements arbitrated"
    pd.DataFrame([metrics | {"value": 0.7, "low": 0.6, "high": 0.8}]).to_parquet(folder / "metrics.parquet")
    text = methods_text(gather(cohort))
    assert "(19 readings, 19 of them" in text and "was 0.70 (95 % interval 0.60 to 0.80)" in text


def test_the_flow_counts_by_archive_and_adds_up(cohort: Path) -> None:
    with connect(cohort) as connection:
        flow = rows_of(connection, "FROM strobe_flow")
        diagram = steps(flow, patients=8)
    for unit in ("files", "studies", "levels"):
        for archive in (1, 2):
            here = [row for row in flow if (row["unit"], row["archive"]) == (unit, archive)]
            assert sum(row["n"] for row in here if row["outcome"] == "all") * 2 == sum(row["n"] for row in here)
    main = {step.main.head: step.main for step in diagram}
    assert dict(main["Files in the archives"].lines) == {"archive 1": 5000, "archive 2": 1000}
    assert dict(main["MR studies"].lines) == {"patients": 8, "archive 1": 12, "archive 2": 4}


def test_files_of_an_archive_without_a_study_left_are_not_counted(tmp_path: Path) -> None:
    rows = two_archives()
    for row in rows["studies"]:
        row["archive"] = 2  # the folder has moved
    publish(tmp_path, as_tables(rows), RUN)
    with connect(tmp_path) as connection:
        assert [row["archive"] for row in rows_of(connection, "FROM latest_of_archives")] == [2]


def test_cohorts_of_before_archives_were_numbered_count_their_last_run(tmp_path: Path) -> None:
    rows = make_rows(2)
    rows["runs"] = [run(rows["studies"], run_id=EARLIER), run(rows["studies"])]
    publish(tmp_path, as_tables(rows), RUN)
    with connect(tmp_path) as connection:
        diagram = steps(rows_of(connection, "FROM strobe_flow"), patients=1)
    assert diagram[0].main.head == "Files in the archive" and diagram[0].main.n == 1000 and not diagram[0].main.lines
    assert study(0)["study_key"] == rows["studies"][0]["study_key"]
