"""Removes what neither the current tables nor a later run need. Nothing that a grade rests on is among it.

| what                                   | goes if                                                                     |
|----------------------------------------|-----------------------------------------------------------------------------|
| `runs/*/report.html`, `methods.md`     | it is not the newest report                                                 |
| `runs/*/cases/<study_key>`             | they are not those shown beside the study's row of the current tables       |
| `runs/*/shards/*.parquet`              | each of its studies was graded again later, and the tables hold that; and   |
|                                        | no features are kept that were made for it (modic/tables/features.py)       |
| `runs/*/shards/*.parquet.damaged`      | always: its studies were graded again                                       |
| `private/logs/*`                       | always                                                                      |
| `private/prefect/*` that was set aside | always                                                                      |
| the records of the temporary Prefect   | if asked for                                                                |

All of it only if its run is older than the days given. Manifests stay: they hold each run's options and counts.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from modic.cohort import STUDY_KEY, Cohort, began, remove
from modic.run import ledger
from modic.run.status import latest_report
from modic.tables.query import published
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
    folder = published(cohort.root)
    studies = read_file(folder, "studies").select(["study_key", "run_id"])
    rows = zip(*(studies[name].to_pylist() for name in ("run_id", "study_key")), strict=True)
    shown = {cohort.pictures(*row) for row in rows}
    levels = set(pc.unique(read_file(folder, "levels")["run_id"]).to_pylist())
    newest = max(read_file(folder, "runs")["run_id"].to_pylist())
    oldest = datetime.now(UTC) - timedelta(days=days)
    old = [run for run in cohort.runs() if began(run.name) < oldest and run.name <= newest]
    found = [
        *(("old reports", path) for path in _reports(cohort, old, "report.html")),
        *(("methods paragraphs of old reports", path) for path in _reports(cohort, old, "methods.md")),
        *(("pictures of replaced gradings", path) for path in _cases(old, shown)),
        *(("replaced shards", path) for path in _shards(cohort, old, levels)),
        *(("damaged shards", path) for run in old for path in run.glob("shards/*.parquet.damaged")),
        *(("logs", path) for path in cohort.private.glob("logs/*.log") if _is_old(path, oldest)),
        *(("records of Prefect", path) for path in _prefect(cohort, prefect)),
    ]
    return [Superfluous(kind, path, _size(path)) for kind, path in found]


def prune(things: list[Superfluous]) -> None:
    """Remove them. Callers hold the lock of the cohort."""
    for thing in things:
        remove(thing.path)


def _reports(cohort: Cohort, old: list[Path], name: str) -> list[Path]:
    newest = latest_report(cohort)
    return [run / name for run in old if newest and run != newest.parent and (run / name).is_file()]


def _cases(old: list[Path], shown: set[Path]) -> Iterator[Path]:
    for run in old:
        for case in (run / "cases").glob("s_*"):
            if STUDY_KEY.fullmatch(case.name) and case not in shown:
                yield case


def _shards(cohort: Cohort, old: list[Path], published: set[str]) -> Iterator[Path]:
    """Shards of no published grade and without kept features, each study of which has a later row in the ledger."""
    rows = ledger.read_keys(cohort)
    last = dict(zip(*(rows[name].to_pylist() for name in ("study_key", "run_id")), strict=True))
    of_shard: dict[str, list[str]] = defaultdict(list)
    for shard, key in zip(*(rows[name].to_pylist() for name in ("shard", "study_key")), strict=True):
        of_shard[shard].append(key)
    for run in old:
        for path in run.glob("shards/[!.]*.parquet") if run.name not in published else ():
            keys = of_shard.get(f"{run.name}/{path.name}", [])
            needed = cohort.features(run.name, path.stem).is_file()
            if keys and not needed and all(last[key] > run.name for key in keys):
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
