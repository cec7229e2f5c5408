"""A cohort remembers studies that have left the archive: their dates, their links, why they were not graded."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dicoms import study, write
from modic.cohort import open_cohort
from modic.files import write_table
from modic.run import status
from modic.tables import query
from modic.tables.store import read_table
from plain_run import plain_run

DAYS_APART = 700
FIRST, SECOND, THIRD = "20190102", "20201202", "20220101"


pytestmark = pytest.mark.usefixtures("no_networks")


def visit(archive: Path, day: str, patient: str = "ann") -> Path:
    """Write one study of a patient and a day; returns its folder."""
    slices = study(patient=patient, study=day)
    for slice_ in slices:
        slice_.StudyDate = day
    write(slices, archive / patient / day)
    return archive / patient / day


def days(cohort: Path) -> dict[int, int | None]:
    """Year of the study → days since the first; every law must hold."""
    assert not any(query.run_checks(cohort).values())
    rows = read_table(cohort, "studies").to_pylist()
    return {row["study_year"]: row["days_since_first_study"] for row in rows}


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_visits_of_two_archives_are_dated_from_the_first_of_both(tmp_path: Path, order: tuple[str, str]) -> None:
    cohort = tmp_path / "cohort"
    for day in order:
        visit(tmp_path / day, day)
        plain_run(tmp_path / day, cohort)
    assert days(cohort) == {2019: 0, 2020: DAYS_APART}
    here = {row["study_year"]: row["in_archive"] for row in read_table(cohort, "studies").to_pylist()}
    assert here == {int(order[0][:4]): False, int(order[1][:4]): True}
    archives = {row["study_year"]: row["archive"] for row in read_table(cohort, "studies").to_pylist()}
    assert archives == {int(order[0][:4]): 1, int(order[1][:4]): 2}
    assert read_table(cohort, "runs")["archive"].to_pylist() == [1, 2]
    links = pq.read_table(open_cohort(cohort).links).to_pylist()
    assert {row["study_date"].year for row in links} == {2019, 2020} and all(row["files"] for row in links)


def test_a_first_study_that_left_still_counts_for_those_that_come_later(tmp_path: Path) -> None:
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    gone = visit(archive, FIRST)
    plain_run(archive, cohort)
    shutil.rmtree(gone)
    visit(archive, SECOND)
    plain_run(archive, cohort)
    shutil.rmtree(archive / "ann" / SECOND)
    visit(archive, THIRD)
    plain_run(archive, cohort)
    assert days(cohort) == {2019: 0, 2020: DAYS_APART, 2022: 1095}


def test_a_cohort_that_remembered_no_dates_keeps_the_days_that_it_published(tmp_path: Path) -> None:
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    gone, alone = visit(archive, FIRST), visit(archive, THIRD, "bob")
    visit(archive, SECOND)
    plain_run(archive, cohort)
    links = open_cohort(cohort).links
    write_table(pq.read_table(links).drop_columns(["study_date"]), links)
    shutil.rmtree(gone)
    shutil.rmtree(alone)
    plain_run(archive, cohort)
    assert days(cohort) == {2019: 0, 2020: DAYS_APART, 2022: None}


def test_why_a_study_was_not_graded_outlives_its_files(tmp_path: Path) -> None:
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    visit(archive, FIRST)
    short = study(patient="bob")[:9]
    write(short, archive / "bob")
    plain_run(archive, cohort)
    (before,) = (row for row in read_table(cohort, "studies").to_pylist() if row["status"] == "excluded")
    assert before["reason"] and before["in_archive"]
    shutil.rmtree(archive / "bob")
    plain_run(archive, cohort)
    (after,) = (row for row in read_table(cohort, "studies").to_pylist() if row["status"] == "excluded")
    assert after == before | {"in_archive": False}
    plain_run(archive, cohort)
    assert after in read_table(cohort, "studies").to_pylist()


def test_an_archive_that_lacks_most_known_studies_is_not_taken_in_silence(tmp_path: Path) -> None:
    archive, cohort, config = tmp_path / "archive", tmp_path / "cohort", tmp_path / "cohort.toml"
    for patient in ("ann", "bob", "cid"):
        visit(archive, FIRST, patient)
    assert plain_run(archive, cohort).attention == ""
    shutil.rmtree(archive / "ann")
    assert plain_run(archive, cohort).attention == ""
    (tmp_path / "typo").mkdir()
    visit(tmp_path / "typo", SECOND, "dan")
    config.write_text("[run]\nstudies_may_leave = true\n")
    shutil.copytree(cohort, tmp_path / "other", symlinks=True)
    assert plain_run(tmp_path / "typo", tmp_path / "other", config=str(config)).attention == ""
    summary = plain_run(tmp_path / "typo", cohort)
    said = f"2 of the 2 studies of the run before are not in {tmp_path / 'typo'}"
    assert said in summary.line() and "studies_may_leave" in summary.line()
    assert any(line.startswith("attention") and said in line for line in status.lines(open_cohort(cohort)))
    assert len(read_table(cohort, "studies")) == 4
    assert plain_run(tmp_path / "typo", cohort).attention == ""


def test_archives_that_feed_a_cohort_in_turn_are_each_compared_with_what_they_held(tmp_path: Path) -> None:
    first, second, cohort = tmp_path / "2024", tmp_path / "2025", tmp_path / "cohort"
    for patient in ("ann", "bob", "cid"):
        visit(first, FIRST, patient)
        visit(second, SECOND, patient)
    plain_run(first, cohort)
    said = plain_run(second, cohort).attention
    assert said.startswith(f"3 of the 3 studies of the run before are not in {second}") and "a further archive" in said
    assert plain_run(first, cohort).attention == plain_run(second, cohort).attention == ""
    shutil.rmtree(first / "ann")
    shutil.rmtree(first / "bob")
    said = plain_run(first, cohort).attention
    assert said.startswith(f"2 of the 3 studies that this archive held are not in {first}") and "this is meant" in said
    assert len(read_table(cohort, "studies")) == 6
