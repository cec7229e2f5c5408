"""The cohort directory: where a run's files lie, who may write there now, and how a file appears whole.

COHORT/
  current/   what analysts read; replaced in one atomic step (modic/tables.py)
  runs/<run_id>/shards/<shard_id>.parquet     finished shards, immutable; also manifest, report, methods,
                                              and cases/<study_key>/, the pictures of what this run graded
  private/   mode 0700: key, header index, links, lock, shard inputs, Prefect's database when there is no server
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modic.errors import UsageError

LAYOUT = 1
"""Version of the directory layout, in `private/cohort.json`, which also marks a directory as a cohort."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Paths inside one cohort directory. Get one from `create_cohort` or `open_cohort`."""

    root: Path

    @property
    def private(self) -> Path:
        """Everything identifying, mode 0700."""
        return self.root / "private"

    @property
    def header_index(self) -> Path:
        """What the crawl remembers of every file."""
        return self.private / "header_index.parquet"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.root / "runs" / run_id

    def shard(self, run_id: str, shard_id: str) -> Path:
        """The finished file of one shard."""
        return self.run(run_id) / "shards" / f"{shard_id}.parquet"

    def case(self, run_id: str, study_key: str) -> Path:
        """The pictures of one study that this run graded (modic/pictures.py)."""
        return self.run(run_id) / "cases" / study_key

    def shard_input(self, run_id: str, shard_id: str) -> Path:
        """What a worker is told of one shard: paths and UIDs, so private. Its progress file lies beside it."""
        return self.private / "shards" / run_id / f"{shard_id}.json"

    def finished_shards(self) -> list[Path]:
        """Every finished shard of every run, oldest run first."""
        return sorted((self.root / "runs").glob("*/shards/[!.]*.parquet"))

    def forget_shard_inputs(self) -> None:
        """Remove what runs, also killed ones, told their workers."""
        shutil.rmtree(self.private / "shards", ignore_errors=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One run at a time writes a cohort; the lock dies with the process. Raises UsageError where it is held."""
        with (self.private / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"another run is writing {self.root}; wait for it to end") from error
            yield


def create_cohort(root: Path, *, archive: Path) -> Cohort:
    """The cohort at `root`, made where it does not exist.

    Raises UsageError where `root` is a file, a directory with other things in it, inside the archive or around it.
    """
    here, there = root.resolve(), archive.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UsageError(f"the cohort {root} and the archive {archive} must not lie inside each other")
    if not is_cohort(root):
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a directory for a cohort")
        if root.is_dir() and any(root.iterdir()):
            raise UsageError(f"{root} is not empty and not a cohort; name a new directory")
        _create(root)
    return open_cohort(root)


def open_cohort(root: Path) -> Cohort:
    """An existing cohort. Raises UsageError where `root` is none, or of a layout this version does not know."""
    if not is_cohort(root):
        raise UsageError(f"{root} is not a cohort" if root.exists() else f"{root} does not exist")
    layout = json.loads((root / "private" / "cohort.json").read_text(encoding="utf-8")).get("layout")
    if layout != LAYOUT:
        raise UsageError(f"{root} has cohort layout {layout}; this version of modic knows {LAYOUT}")
    return Cohort(root.resolve())


def is_cohort(root: Path) -> bool:
    """Whether `root` was made by `create_cohort`."""
    return (root / "private" / "cohort.json").is_file()


def _create(root: Path) -> None:
    private = root / "private"
    try:
        private.mkdir(parents=True, mode=0o700)
        (root / "runs").mkdir()
        write_json(private / "cohort.json", {"layout": LAYOUT})
    except OSError as error:
        raise UsageError(f"cannot create the cohort {root}: {error.strerror}") from error


def new_run_id() -> str:
    """UTC time and four random digits, so that names sort by time: `20261123T200000Z-1f0c`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def write_json(path: Path, value: Any) -> Path:
    """Write `path` so that it appears whole or not at all, also after a kill or a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
    return path


def sync_directory(path: Path) -> None:
    """Make the names in a directory as durable as the files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
