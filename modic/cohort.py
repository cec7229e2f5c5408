"""The cohort directory: the place of each file, and the lock that lets one run at a time write there.

COHORT/
  current/   what analysts read; replaced in one atomic step (modic/tables/store.py)
  runs/<run_id>/shards/<shard_id>.parquet     finished shards, immutable; also manifest, report, methods,
                                              and cases/<study_key>/, the pictures of what this run graded
  private/   mode 0700: key, header index, links, lock, shard inputs, Prefect's database when there is no server
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from modic.errors import UsageError
from modic.files import read_json, write_json

RUN_TIME = "%Y%m%dT%H%M%SZ"
RUN_ID = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z-*"
LAYOUT = 1
"""Version of the directory layout, in `private/cohort.json`, which also marks a directory as a cohort."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Paths inside one cohort directory. Get one from `create_cohort` or `open_cohort`."""

    root: Path

    @property
    def private(self) -> Path:
        """The folder of everything that identifies a patient, mode 0700."""
        return self.root / "private"

    @property
    def header_index(self) -> Path:
        """The table in which the crawl keeps the headers of every file."""
        return self.private / "header_index.parquet"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.root / "runs" / run_id

    def shard(self, run_id: str, shard_id: str) -> Path:
        """The finished file of one shard."""
        return self.run(run_id) / "shards" / f"{shard_id}.parquet"

    def case(self, run_id: str, study_key: str) -> Path:
        """The pictures of one study that this run graded (modic/cases/images.py)."""
        return self.run(run_id) / "cases" / study_key

    def shard_input(self, run_id: str, shard_id: str) -> Path:
        """The input of one shard for its worker: paths and UIDs, so private. Its progress file lies beside it."""
        return self.private / "shards" / run_id / f"{shard_id}.json"

    def finished_shards(self) -> list[Path]:
        """Every finished shard of every run, oldest run first."""
        return sorted((self.root / "runs").glob("*/shards/[!.]*.parquet"))

    def new_run_id(self) -> str:
        """UTC time and four random digits; sorts after every run of this cohort, even if the clock was set back."""
        now = datetime.now(UTC)
        last = max((path.name[:16] for path in (self.root / "runs").glob(RUN_ID)), default="")
        if last >= f"{now:{RUN_TIME}}":
            now = datetime.strptime(last, RUN_TIME).replace(tzinfo=UTC) + timedelta(seconds=1)
        return f"{now:{RUN_TIME}}-{secrets.token_hex(2)}"

    def forget_shard_inputs(self) -> None:
        """Remove the shard inputs of all runs, also of killed ones."""
        shutil.rmtree(self.private / "shards", ignore_errors=True)

    @contextmanager
    def lock(self, run_id: str = "") -> Iterator[None]:
        """Hold the lock of the cohort, so that one run at a time writes it.

        The lock ends with the process; `run_id`, which is written into the lock's file, stays there for `last_begun`.
        Unfinished files that killed runs left are removed. Raises UsageError if another process holds the lock, or if
        the cohort cannot be written.
        """
        try:
            lock_file = (self.private / "lock").open("a")
        except OSError as error:
            raise UsageError(f"the cohort {self.root} cannot be written: {error.strerror}") from error
        with lock_file as file:
            if not _locked(file, fcntl.LOCK_EX):
                time.sleep(0.2)  # `last_begun` holds it for a moment
                if not _locked(file, fcntl.LOCK_EX):
                    raise UsageError(f"another run is writing {self.root}; wait for it to end")
            if run_id:
                with suppress(OSError):  # only `modic status` needs it; the disk may be full
                    os.ftruncate(file.fileno(), 0)
                    os.write(file.fileno(), run_id.encode())
            for stale in [*self.private.glob(".*.tmp"), *self.root.glob("runs/*/shards/.*.tmp")]:
                stale.unlink(missing_ok=True)
            yield

    def last_begun(self) -> tuple[str | None, bool]:
        """The id of the last run that took the lock (None: no run did), and whether it still holds it."""
        try:
            file = (self.private / "lock").open("r")
        except FileNotFoundError:
            return None, False
        with file:
            running = not _locked(file, fcntl.LOCK_SH)  # released at once; `lock` tries twice for that moment
            return file.read() or None, running


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def create_cohort(root: Path, *, archive: Path) -> Cohort:
    """The cohort at `root`, made if it does not exist.

    Raises UsageError if `root` is a file, a directory with other things in it, inside the archive or around it.
    """
    here, images = root.resolve(), archive.resolve()
    if here.is_relative_to(images) or images.is_relative_to(here):
        raise UsageError(f"the cohort {root} and the archive {archive} must not lie inside each other")
    if not is_cohort(root):
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a directory for a cohort")
        if root.is_dir() and not _begun(root):
            raise UsageError(f"{root} is not empty and not a cohort; name a new directory")
        _create(root)
    cohort = open_cohort(root)
    _close_to_others(cohort.private)
    return cohort


def open_cohort(root: Path) -> Cohort:
    """An existing cohort. Raises UsageError if `root` is none, or has a layout that this version does not know."""
    if not is_cohort(root):
        raise UsageError(f"{root} is not a cohort" if root.exists() else f"{root} does not exist")
    mark = root / "private" / "cohort.json"
    layout = (read_json(mark) or {}).get("layout")
    if layout is None:
        raise UsageError(f'{mark} is damaged; restore it from a backup, or write {{"layout": {LAYOUT}}} into it')
    if layout != LAYOUT:
        raise UsageError(f"{root} has cohort layout {layout}; this version of modic knows {LAYOUT}")
    return Cohort(root.resolve())


def is_cohort(root: Path) -> bool:
    """Whether `root` was made by `create_cohort`."""
    return (root / "private" / "cohort.json").is_file()


def _begun(root: Path) -> bool:
    """Whether a directory holds nothing but what an interrupted `_create` leaves."""
    known = {root / "private", root / "runs"}
    return all(path in known or fnmatch(path.name, ".cohort.json.*.tmp") for path in root.rglob("*"))


def _close_to_others(private: Path) -> None:
    """Set mode 0700 again: copying a cohort may have opened its private folder to others."""
    try:
        if private.stat().st_mode & 0o077:
            private.chmod(0o700)
    except OSError as error:
        raise UsageError(f"{private} must be readable by its owner alone (chmod 700): {error.strerror}") from error


def _create(root: Path) -> None:
    private = root / "private"
    try:
        private.mkdir(parents=True, mode=0o700, exist_ok=True)
        (root / "runs").mkdir(exist_ok=True)
        write_json(private / "cohort.json", {"layout": LAYOUT})
    except OSError as error:
        raise UsageError(f"cannot create the cohort {root}: {error.strerror}") from error
