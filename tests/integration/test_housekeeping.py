"""What a cohort keeps: a night without news writes no report, and what goes was needed by nothing."""

import os
import shutil
from pathlib import Path

import pytest

from dicoms import study, write
from modic.cli.main import main
from modic.cohort import open_cohort
from modic.report.page import write_report
from modic.run import status
from modic.run.publish import Summary
from modic.tables.query import run_checks
from modic.tables.store import read_table
from plain_run import plain_run

pytestmark = pytest.mark.usefixtures("no_networks")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for patient in ("ann", "bob"):
        write(study(patient=patient), tmp_path / "archive" / patient)
    return tmp_path / "archive"


def night(archive: Path, cohort: Path, **more: str) -> Summary:
    """A run, with its report if there is news."""
    summary = plain_run(archive, cohort, **more)  # type: ignore[arg-type]
    if summary.news:
        write_report(cohort, summary.run_id)
    return summary


def test_a_night_without_news_writes_no_report_and_the_address_stays(archive: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    first = night(archive, cohort)
    assert first.news
    assert f'href="runs/{first.run_id}/report.html"' in (cohort / "report.html").read_text()
    assert not night(archive, cohort).news and not night(archive, cohort).news
    assert [path.parent.name for path in cohort.glob("runs/*/report.html")] == [first.run_id]
    assert f"report     runs/{first.run_id}/report.html" in status.lines(open_cohort(cohort))
    write(study(patient="cid"), archive / "cid")
    second = night(archive, cohort)
    assert second.news and second.run_id in (cohort / "report.html").read_text()
    (archive / "notes.txt").write_text("x")
    assert night(archive, cohort).news, "another count of files, which the flow diagram shows"
    shutil.rmtree(archive / "ann")
    assert night(archive, cohort).news
    assert not night(archive, cohort).news
    write(study(patient="dan"), archive / "dan")
    assert plain_run(archive, cohort).news, "and is killed before it writes its report"
    assert night(archive, cohort).news
    assert not night(archive, cohort).news
    for path in cohort.glob("runs/*/report.html"):
        path.unlink()
    assert night(archive, cohort).news, "there is no report"


def pictures(cohort: Path) -> None:
    """A folder of pictures for every study of every shard, as workers with networks make."""
    from modic.run import ledger

    for row in ledger.read_ledger(open_cohort(cohort)).to_pylist():
        case = open_cohort(cohort).case(row["run_id"], row["study_key"])
        case.mkdir(parents=True, exist_ok=True)
        (case / "t1.webp").write_bytes(b"x" * 1000)


def prune(cohort: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["prune", str(cohort), *more]) == 0
    return capsys.readouterr().out


def test_what_current_tables_need_survives_and_nothing_is_graded_again(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort, config = tmp_path / "cohort", tmp_path / "cohort.toml"
    first = night(archive, cohort)
    write(study(patient="gone"), archive / "gone")
    night(archive, cohort)
    config.write_text("[levels]\nslices = 5\n")
    shutil.rmtree(archive / "gone")
    third = night(archive, cohort, config=str(config))
    assert third.graded_now == 2
    pictures(cohort)
    log = open_cohort(cohort).log(first.run_id)
    log.parent.mkdir()
    log.write_text("x")
    before = {name: read_table(cohort, name) for name in ("studies", "series", "levels", "runs")}
    files = {path for path in cohort.rglob("*") if path.is_file()}
    assert prune(cohort, capsys) == "nothing to remove of runs older than 30 days\n"
    os.utime(log, (0, 0))
    said = prune(cohort, capsys, "--days", "0", "--dry-run")
    assert said.splitlines() == [
        "old reports: 2 would go, 1 MB", "methods paragraphs of old reports: 2 would go, 1 MB",
        "pictures of replaced gradings: 2 would go, 1 MB",
        "replaced shards: 2 would go, 1 MB", "logs: 1 would go, 1 MB",
    ]  # fmt: skip
    assert {path for path in cohort.rglob("*") if path.is_file()} == files
    assert prune(cohort, capsys, "--days", "0") == said.replace("would go", "removed")
    assert {name: read_table(cohort, name) for name in before} == before
    assert not any(run_checks(cohort).values())
    kept = {path.parent.name for path in cohort.glob("runs/*/cases/*/t1.webp")}
    assert kept == set(before["studies"]["study_key"].to_pylist()), (
        "one picture of each study, also of the one that left"
    )
    assert (cohort / "runs" / third.run_id / "report.html").is_file()
    again = night(archive, cohort, config=str(config))
    assert again.graded_now == 0 and not again.news
    assert {name: read_table(cohort, name) for name in ("studies", "series", "levels")} == {
        name: before[name] for name in ("studies", "series", "levels")
    }
    write(study(patient="gone"), archive / "gone")
    assert night(archive, cohort, config=str(config)).graded_now == 1, "its options were others"


def test_shards_of_a_killed_run_and_records_of_prefect_stay(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = tmp_path / "cohort"
    night(archive, cohort)
    write(study(patient="cid"), archive / "cid")

    class Killed(Exception): ...

    def stop(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("modic.run.publish.publish", stop)
        with pytest.raises(Killed):
            plain_run(archive, cohort)
    records = cohort / "private" / "prefect"
    records.mkdir(exist_ok=True)
    (records / "prefect.db").write_text("x")
    (records / "prefect.db.set-aside").write_text("x")
    assert prune(cohort, capsys, "--days", "0") == "records of Prefect: 1 removed, 1 MB\n"
    assert (records / "prefect.db").exists()
    assert "records of Prefect: 1 removed" in prune(cohort, capsys, "--days", "0", "--prefect")
    assert night(archive, cohort).graded_now == 0, "the killed run's shard was kept"


def test_prune_refuses_what_it_cannot_do(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = tmp_path / "cohort"
    night(archive, cohort)
    assert main(["prune", str(cohort), "--days", "-1"]) == 2
    assert "--days must be 0 or more, not -1" in capsys.readouterr().err
    assert main(["prune", str(archive)]) == 2
