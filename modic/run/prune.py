"""Removes what neither the current tables nor a later run need. Nothing that a grade rests on is among it.

| what                                   | goes if                                                                     |
|----------------------------------------|-----------------------------------------------------------------------------|
| `runs/*/report.html`, `methods.md`     | it is not the newest report                                                 |
| `runs/*/cases/<study_key>`             | the current tables hold another grading of the study, or none of this run   |
| `runs/*/shards/*.parquet`              | each of its studies was graded again later, and the tables hold that        |
| `runs/*/shards/*.parquet.damaged`      | always: its studies were graded again                                       |
| `private/logs/*`                       | always                                                                      |
| `private/prefect/*` that was set aside | always                                                                      |
| the records of the temporary Prefect   | if asked for                                                                |

All of it only if its run is older than the days given. Manifests stay: they hold each run's options and counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import RUN_TIME, STUDY_KEY, Cohort, remove
from modic.errors import UsageError
from modic.run import ledger
from modic.run.status import latest_report
from modic.tables.published import current_tables
from modic.tables.store import read_file

PREFECT = ("prefect.db", "prefect.db-wal", "prefect.db-shm")


@dataclass(frozen=True, slots=True)
class Superfluous:
    """Something that can go."""

    kind: str  # in words
    path: Path
    bytes: int


def superfluous(cohort: Cohort, *, days: float, prefect: bool = False) -> list[Superfluous]:
    """Everything that can go, of runs that are older than `days`. Raises UsageError if no run has published."""
    folder = current_tables(cohort.root)
    if folder is None:
        raise UsageError(f"no run has finished in {cohort.root} yet")
    studies = read_file(folder, "studies").select(["study_key", "run_id"])
    graded = set(zip(*(studies[name].to_pylist() for name in ("run_id", "study_key")), strict=True))
    levels = set(pc.unique(read_file(folder, "levels")["run_id"]).to_pylist())
    published = max(read_file(folder, "runs")["run_id"].to_pylist())
    oldest = datetime.now(UTC) - timedelta(days=days)
    old = [run for run in cohort.runs() if began(run.name) < oldest and run.name <= published]
    found = [
        *(("old reports", path) for path in _reports(cohort, old)),
        *(("pictures of superseded gradings", path) for path in _cases(old, graded)),
        *(("superseded shards", path) for path in _shards(cohort, old, levels)),
        *(("damaged shards", path) for run in old for path in run.glob("shards/*.parquet.damaged")),
        *(("logs", path) for path in cohort.private.glob("logs/*.log") if _is_old(path, oldest)),
        *(("records of Prefect", path) for path in _prefect(cohort, prefect)),
    ]
    return [Superfluous(kind, path, _size(path)) for kind, path in found]


def prune(things: list[Superfluous]) -> None:
    """Remove them. Callers hold the lock of the cohort."""
    for thing in things:
        remove(thing.path)


def began(run_id: str) -> datetime:
    """When a run took its name."""
    return datetime.strptime(run_id[:16], RUN_TIME).replace(tzinfo=UTC)


def _reports(cohort: Cohort, old: list[Path]) -> Iterator[Path]:
    newest = latest_report(cohort)
    for run in old:
        if newest is not None and run != newest.parent:
            yield from (path for path in (run / "report.html", run / "methods.md") if path.is_file())


def _cases(old: list[Path], graded: set[tuple[str, str]]) -> Iterator[Path]:
    for run in old:
        for case in (run / "cases").glob("s_*"):
            if STUDY_KEY.fullmatch(case.name) and (run.name, case.name) not in graded:
                yield case


def _shards(cohort: Cohort, old: list[Path], published: set[str]) -> Iterator[Path]:
    """Shards of no published grade, each study of which has a later row in the ledger."""
    rows = ledger.read_ledger(cohort).select(["study_key", "run_id"])
    last = dict(zip(*(rows[name].to_pylist() for name in ("study_key", "run_id")), strict=True))
    for run in old:
        for path in run.glob("shards/[!.]*.parquet") if run.name not in published else ():
            keys = pq.read_table(path, columns=["study_key"], partitioning=None)["study_key"].to_pylist()
            if all(last[key] > run.name for key in keys):
                yield path


def _is_old(log: Path, oldest: datetime) -> bool:
    return datetime.fromtimestamp(log.stat().st_mtime, UTC) < oldest


def _prefect(cohort: Cohort, also_current: bool) -> Iterator[Path]:
    home = cohort.private / "prefect"
    yield from home.glob("prefect.db.set-aside*")
    if also_current:
        yield from (home / name for name in PREFECT if (home / name).exists())


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
