"""`modic status`: what the files say of the last run, of one that runs or was killed, and of the next."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicoms import study, write
from made_cohort import RUN, as_tables, key, make_cohort, make_rows
from made_cohort import study as study_row
from modic import versions
from modic.cli.main import main
from modic.cohort import Cohort, create_cohort
from modic.deidentify.pseudonyms import Pseudonyms
from modic.errors import Reason, Rejected, UsageError
from modic.records import Pair, StudyResult
from modic.run import isolate, ledger, prepare, shards, survey
from modic.run.ledger import row
from modic.run.shards import Job, Shard, Work
from modic.tables.store import publish

LATER = "20261124T200000Z-2a2b"
SHARDS = (Shard("00000", 2), Shard("00001", 2))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    (tmp_path / "archive").mkdir()
    return create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")


@pytest.fixture
def status(cohort: Cohort, capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, str]]:
    """What the command prints, by the name that a line begins with."""

    def ask() -> dict[str, str]:
        assert main(["status", str(cohort.root)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert len(said) <= 11
        return {line[:10].strip(): line[11:] for line in said}

    return ask


def works(tmp_path: Path, n: int) -> list[Work]:
    """Pairs to grade, as a run over an archive finds them."""
    for number in range(n):
        write(study(patient=f"p{number}"), tmp_path / "archive" / str(number))
    run = prepare.prepare(str(tmp_path / "archive"), str(tmp_path / "cohort"))
    pairs = survey.find_studies(run).pairs
    assert len(pairs) == n and all(isinstance(one, Pair) for one in pairs)
    return [Work(key("s", 100 + number), "f", pair=pair) for number, pair in enumerate(pairs)]


def begin(tmp_path: Path, cohort: Cohort, run_id: str = LATER) -> Job:
    """Four studies in two shards, of which the first is finished, and the second at its second study."""
    work = works(tmp_path, 4)
    run = replace(prepare.prepare(str(tmp_path / "archive"), str(cohort.root)), run_id=run_id)
    for index, shard in enumerate(SHARDS):
        shards.write_input(run.job, shard, work[2 * index : 2 * index + 2], run.config)
        shards.note_position(run.job, shard, 1)
    finished = [row(one, StudyResult(), run.grader) for one in work[:2]]
    ledger.write_output(run.job.output(SHARDS[0]), finished)
    return run.job


def test_a_cohort_without_a_run(status: Callable[[], dict[str, str]]) -> None:
    said = status()
    assert said["now"] == "no run is going on"
    assert said["last run"] == "none has finished yet"
    assert said["next run"] == "grades what is new or changed"


def test_a_finished_run_says_what_failed_and_what_is_tried_again(
    cohort: Cohort, status: Callable[[], dict[str, str]]
) -> None:
    rows = make_rows()
    number = len(rows["studies"])
    for reason, here in (("pixels_unreadable", True), ("time_limit", True), ("time_limit", False)):
        rows["studies"].append(study_row(number, "failed", f"study.{reason}", detail="limit 300 s", in_archive=here))
        number += 1
    publish(cohort.root, as_tables(rows), RUN)
    with cohort.lock(RUN):
        pass
    said = status()
    assert said["now"] == "no run is going on"
    assert said["last run"] == f"{RUN}, published 2026-11-23 23:12 UTC after 3 h 12 min, modic 0.1.0 on cpu"
    assert said["files"] == "1000 seen: 900 read, 40 unchanged, 60 rejected"
    assert said["studies"].startswith("11 found: 8 graded, 2 excluded, 1 failed")
    assert "study.little_overlap 1" in said["reasons"] and "file.truncated 19" in said["reasons"]
    assert f"study.worker_died 1: {key('s', 10)}" in said["failed"]
    assert f"study.time_limit 2: {key('s', 12)}, {key('s', 13)}" in said["failed"]
    assert said["uncertain"].startswith("2 graded studies")
    assert "tries 2 failed again (study.time_limit 1, study.worker_died 1)" in said["next run"]
    assert (
        "leaves 2 failed until their files change (study.pixels_unreadable 1, study.time_limit 1)" in said["next run"]
    )
    assert said["report"] == f"modic report {cohort.root} writes it"


def test_speed_and_report_come_from_the_runs_folder(cohort: Cohort, status: Callable[[], dict[str, str]]) -> None:
    make_cohort(cohort.root)
    cohort.run(RUN).mkdir(parents=True)
    manifest = {"studies_worked_on": 8, "seconds": {"find_studies": 2.0, "grade": 64.0}}
    manifest["seconds_by_stage"] = {"load": 10.0, "levels": 30.0}
    (cohort.run(RUN) / "manifest.json").write_text(json.dumps(manifest))
    (cohort.run(RUN) / "report.html").write_text("x")
    said = status()
    assert said["speed"] == "450 studies an hour, 500 files a second, 25 % load, 75 % levels"
    assert said["studies"].endswith("8 worked on in that run")
    assert said["report"] == f"runs/{RUN}/report.html"


def test_a_run_that_is_going_on_shows_how_far_it_is(
    tmp_path: Path, cohort: Cohort, status: Callable[[], dict[str, str]]
) -> None:
    make_cohort(cohort.root)
    Pseudonyms.open(cohort.private)
    cohort.run(RUN).mkdir()
    with cohort.lock(LATER):
        assert status()["now"] == f"run {LATER} is going on since 2026-11-24 20:00 UTC: reading the archive"
        begin(tmp_path, cohort)
        said = status()
        assert said["now"].endswith("3 of 4 studies") and "goes on" not in said["next run"]
        assert said["last run"].startswith(RUN)


def test_after_an_upgrade_status_says_what_is_graded_again_and_why(
    cohort: Cohort, status: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "GRADING_VERSION", 1)
    rows = make_rows()
    rows["studies"][0]["in_archive"] = False
    publish(cohort.root, as_tables(rows), RUN)
    assert "graded again" not in status()["next run"]
    monkeypatch.setattr(versions, "GRADING_CHANGES", {1: "the first", 2: "levels are counted from the sacrum"})
    monkeypatch.setattr(versions, "GRADING_VERSION", 2)
    why = "7 studies are graded again: grading version 2 (levels are counted from the sacrum)"
    assert why in status()["next run"]


def test_a_killed_run_says_what_is_kept(tmp_path: Path, cohort: Cohort, status: Callable[[], dict[str, str]]) -> None:
    begin(tmp_path, cohort)
    with cohort.lock(LATER):
        pass
    said = status()
    assert said["now"] == f"no run is going on; run {LATER} was killed or stopped before it published"
    assert said["last run"] == "none has finished yet"
    assert said["next run"].endswith(f"goes on from run {LATER}: 2 studies kept, 2 to grade")
    again = "20261125T200000Z-3c3c"  # was killed too, while it read the archive
    with cohort.lock(again):
        pass
    cohort.forget_shard_inputs(LATER)
    assert again in status()["now"]


def test_parts_of_a_shard_that_killed_its_worker_are_counted_once(
    tmp_path: Path, cohort: Cohort, status: Callable[[], dict[str, str]]
) -> None:
    job = begin(tmp_path, cohort)
    alone, others = isolate.isolate(job, SHARDS[1], Reason.STUDY_WORKER_DIED)
    assert (alone.isolated, others.isolated) == (True, False)
    with cohort.lock(LATER):
        assert status()["now"].endswith("2 of 4 studies")
        work, _ = shards.read_input(job, alone)
        failed = StudyResult(rejected=Rejected(Reason.STUDY_WORKER_DIED))
        ledger.write_output(job.output(alone), [row(work[0], failed, job.grader)])
        assert status()["now"].endswith("3 of 4 studies")


def test_a_run_that_broke_points_to_its_error(cohort: Cohort, status: Callable[[], dict[str, str]]) -> None:
    note = cohort.private / "last_error.txt"
    note.write_text("Traceback (most recent call last):\nValueError: Doe^John\n")
    os.utime(note, (0, 0))
    with cohort.lock(LATER):
        pass
    assert "was killed" in status()["now"]
    os.utime(note)
    with cohort.lock("20200101T000000Z-0000"):
        pass
    now = status()["now"]
    assert now.endswith(f"broke before it published: see {note}") and "Doe" not in now


def test_a_run_whose_archive_is_away_says_the_reason(
    tmp_path: Path, cohort: Cohort, status: Callable[[], dict[str, str]]
) -> None:
    (tmp_path / "unmounted").mkdir()
    run = prepare.prepare(str(tmp_path / "unmounted"), str(cohort.root))
    with cohort.lock(run.run_id), pytest.raises(UsageError, match="holds no DICOM file"):
        survey.find_studies(run)
    assert (
        f"broke before it published: the archive {tmp_path / 'unmounted'} holds no DICOM file (0 files seen)"
        in status()["now"]
    )


def test_what_is_no_cohort_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    for path, why in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "folder", "is not a cohort")):
        assert main(["status", str(path)]) == 2
        said = capsys.readouterr().err
        assert why in said and said.count("\n") == 1
