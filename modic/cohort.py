"""The cohort directory: the place of each file, and the lock that lets one run at a time write there.

COHORT/
  current/   what analysts read; replaced in one atomic step (modic/tables/store.py)
  runs/<run_id>/shards/<shard_id>.parquet     finished shards, immutable; also manifest, report, methods,
                                              and cases/<study_key>/, the pictures of what this run graded
  private/   mode 0700: key, header index, links, lock, shard inputs, logs, what the classifier's network gave for every
             level (features/), cache of unpacked and fetched images, Prefect's database when there is no server
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from modic import lock
from modic.errors import UsageError
from modic.files import UNFINISHED, is_left_over, make_folder, read_json, time_there, write_json

RUN_TIME = "%Y%m%dT%H%M%SZ"
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}")
STUDY_KEY, SHARD_ID = re.compile(r"s_[0-9a-f]{16}"), re.compile(r"[0-9]{5,}(-[0-9]+)*")
"""Forms of the names that become folders and files. Tables hold them too, which somebody else may have made."""
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

    @property
    def last_error(self) -> Path:
        """Why the last run that broke, or that was refused, did not publish; `modic status` shows it."""
        return self.private / "last_error.txt"

    @property
    def links(self) -> Path:
        """The way back from keys to the archive (modic/run/memory.py)."""
        return self.private / "links.parquet"

    @property
    def cache(self) -> Path:
        """The folder of unpacked and fetched images (modic/archive/cache.py), unless the options name another."""
        return self.private / "cache"

    def run(self, run_id: str) -> Path:
        """The folder of one run."""
        return self.root / "runs" / formed(RUN_ID, run_id)

    def shard(self, run_id: str, shard_id: str) -> Path:
        """The finished file of one shard."""
        return self.run(run_id) / "shards" / f"{formed(SHARD_ID, shard_id)}.parquet"

    def case(self, run_id: str, study_key: str) -> Path:
        """The pictures of one study that this run graded (modic/cases/images.py)."""
        return self.run(run_id) / "cases" / formed(STUDY_KEY, study_key)

    def shard_inputs(self, run_id: str) -> Path:
        """The folder of what the workers of one run need to know: paths and UIDs, so private."""
        return self.private / "shards" / formed(RUN_ID, run_id)

    def shard_input(self, run_id: str, shard_id: str) -> Path:
        """The input of one shard for its worker. Its progress file lies beside it."""
        return self.shard_inputs(run_id) / f"{formed(SHARD_ID, shard_id)}.json"

    def log(self, run_id: str) -> Path:
        """What a run said while it worked (flows/prefect_logs.py): keys and counts, but also paths."""
        return self.private / "logs" / f"{formed(RUN_ID, run_id)}.log"

    def features(self, run_id: str, shard_id: str = "") -> Path:
        """The kept features of one shard (modic/tables/features.py), or the folder of those of a run."""
        folder = self.private / "features" / formed(RUN_ID, run_id)
        return folder / f"{formed(SHARD_ID, shard_id)}.parquet" if shard_id else folder

    def pictures(self, run_id: str, study_key: str) -> Path:
        """The pictures of a study in a row of run `run_id`, which an earlier run drew if this one needed no image."""
        return self.case(_drawn_by(self.drawn_by(run_id)).get(study_key, run_id), study_key)

    def with_pictures(self, run_id: str) -> set[str]:
        """Keys of the studies in rows of run `run_id` that have a folder of pictures."""
        elsewhere = _drawn_by(self.drawn_by(run_id))
        of_others = {key for key, other in elsewhere.items() if self.case(other, key).is_dir()}
        return {path.name for path in (self.run(run_id) / "cases").glob("*")} - elsewhere.keys() | of_others

    def drawn_by(self, run_id: str) -> Path:
        """JSON: study key → the run whose pictures stand for those of a study that this run graded without images."""
        return self.run(run_id) / "drawn_by.json"

    def runs(self) -> list[Path]:
        """The folders of all runs, oldest first. Other folders beside them are not ours."""
        return sorted(path for path in (self.root / "runs").glob("*") if _is_run(path.name) and path.is_dir())

    def finished_shards(self) -> list[Path]:
        """Every finished shard of every run, oldest run first."""
        return [path for run in self.runs() for path in sorted(run.glob("shards/[!.]*.parquet"))]

    def new_run_id(self) -> str:
        """UTC time and four hex digits; sorts after every run of this cohort, even if the clock was set back.

        Raises UsageError if no later id is left.
        """
        now = f"{datetime.now(UTC):{RUN_TIME}}"
        last = max((path.name for path in self.runs()), default="")
        if last[:16] >= now:
            try:
                later = began(last) + timedelta(seconds=1)
                now = f"{later:{RUN_TIME}}"
            except OverflowError:  # the end of the calendar
                return self._next_digits(last)
        return f"{now}-{secrets.token_hex(2)}"

    def _next_digits(self, last: str) -> str:
        number = int(last[17:], 16) + 1
        if number > 0xFFFF:
            raise UsageError(f"no run can be later than {self.root / 'runs' / last}: give that folder an earlier name")
        return f"{last[:16]}-{number:04x}"

    def forget_shard_inputs(self, run_id: str) -> None:
        """Remove the shard inputs of a run that is over."""
        shutil.rmtree(self.shard_inputs(run_id), ignore_errors=True)
        with suppress(OSError):  # those of others are there
            self.shard_inputs(run_id).parent.rmdir()

    def remove_left_overs(self) -> None:
        """Remove unfinished files and shard inputs of killed runs, which nobody has touched for a while.

        Nothing that a run on another machine may still be writing, and no name that modic does not give.
        """
        now = time_there(self.private)
        places = [self.private, self.root, *(run / "shards" for run in self.runs()), *self.private.glob("features/*")]
        unfinished = [path for place in places for path in place.glob(".*.tmp") if UNFINISHED.fullmatch(path.name)]
        inputs = [path for path in self.private.glob("shards/*") if RUN_ID.fullmatch(path.name)]
        for path in unfinished + inputs:
            if is_left_over(path, now):
                remove(path)

    def confirm(self, run_id: str) -> None:
        """Raise ModicError if another machine's run has taken the lock meanwhile."""
        lock.confirm(self.private / "lock", run_id)

    def facts(self) -> dict[str, Any]:
        """What the cohort remembers about itself (`private/cohort.json`)."""
        return _facts(self.root)

    def note(self, **facts: str) -> None:
        """Remember facts about the cohort."""
        known = self.facts()
        if known | facts != known:
            write_json(self.private / "cohort.json", known | facts)

    @contextmanager
    def lock(self, run_id: str = "") -> Iterator[None]:
        """Hold the lock of the cohort, so that one run at a time writes it; without `run_id` only ask for it.

        The lock ends with the process; `run_id`, which is written into the lock's file, stays there for `last_begun`.
        Raises UsageError if another run holds the lock, or if the cohort cannot be written.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(lock.hold(self.private / "lock", run_id))
            except OSError as error:
                raise UsageError(f"the cohort {self.root} cannot be written: {error.strerror}") from error
            yield

    def last_begun(self) -> tuple[str | None, bool]:
        """The id of the last run that took the lock (None: no run did), and whether it still holds it."""
        record, running = lock.last_taken(self.private / "lock")
        return (record.run_id if record and _is_run(record.run_id) else None), running


def _is_run(name: str) -> bool:
    """Whether `name` has the form of a run's id, with a time that there is."""
    with suppress(ValueError):
        return bool(RUN_ID.fullmatch(name) and datetime.strptime(name[:16], RUN_TIME))
    return False


def formed(form: re.Pattern[str], name: str) -> str:
    """`name`, which becomes a part of a path. Raises UsageError if it has not the form of such names."""
    if not form.fullmatch(name):
        raise UsageError(f"{name!r} is no name that modic gives: another hand made these tables or files")
    return name


def _drawn_by(path: Path) -> dict[str, str]:
    try:
        return _read_once(path, path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _read_once(path: Path, mtime_ns: int) -> dict[str, str]:
    known = read_json(path) or {}
    return {key: run for key, run in known.items() if STUDY_KEY.fullmatch(key) and RUN_ID.fullmatch(str(run))}


def began(run_id: str) -> datetime:
    """When a run took its name."""
    return datetime.strptime(run_id[:16], RUN_TIME).replace(tzinfo=UTC)


def remove(path: Path) -> None:
    """Remove a file or a folder of ours as far as that is possible; a link is removed, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def create_cohort(root: Path, *, archive: Path | None) -> Cohort:
    """The cohort at `root`, made if it does not exist; `archive` None: it is no folder of this machine.

    Raises UsageError if `root` is a file, a directory with other things in it, inside the archive or around it.
    """
    here, images = root.resolve(), archive.resolve() if archive else None
    if images and (here.is_relative_to(images) or images.is_relative_to(here)):
        raise UsageError(f"the cohort {root} and the archive {archive} must not lie inside each other")
    if not is_cohort(root):
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a directory for a cohort")
        if root.is_dir() and not _begun(root):
            lost = any((root / name).exists() for name in ("runs", ".tables", "private"))
            raise UsageError(
                f"{root} lacks private/cohort.json; restore all of private/ from a backup" if lost
                else f"{root} is not empty and not a cohort; name a new directory"
            )  # fmt: skip
        _create(root)
    cohort = open_cohort(root)
    _close_to_others(cohort.private)
    return cohort


@contextmanager
def nothing_left(
    folder: Path,
    *,
    unless: Callable[[], object] = lambda: False,
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[None]:
    """If the block refuses what it was given, take away what it made in `folder`, if that was new or empty before.

    Args:
        unless: asked then; whether something is there that is worth keeping.
        alone: a lock of the folder, without which nothing is taken away: another run may have begun there meanwhile.
    """
    was_there = folder.exists()
    was_empty = not was_there or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except UsageError:
        if was_empty and folder.is_dir():
            with suppress(UsageError, OSError), alone():
                if not unless():
                    for path in list(folder.iterdir()) if was_there else [folder]:
                        remove(path)
        raise


def open_cohort(root: Path) -> Cohort:
    """An existing cohort. Raises UsageError if `root` is none, or has a layout that this version does not know."""
    if not is_cohort(root):
        raise UsageError(f"{root} is not a cohort" if root.exists() else f"{root} does not exist")
    refuse_links(root)
    layout = _facts(root).get("layout")
    if layout != LAYOUT:
        raise UsageError(f"{root} has cohort layout {layout}; this version of modic knows {LAYOUT}")
    return Cohort(root.resolve())


def _facts(root: Path) -> dict[str, Any]:
    path = root / "private" / "cohort.json"
    try:
        facts = json.loads(path.read_bytes())
    except PermissionError as error:
        raise UsageError(
            f"{root} belongs to somebody else: only its owner can read its private folder, which this needs."
            " `modic query`, `check`, `export` and modic.open read its tables"
        ) from error
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UsageError(f'{path} is damaged; restore it from a backup, or write {{"layout": {LAYOUT}}} into it')
    return facts


def is_cohort(root: Path) -> bool:
    """Whether `root` was made by `create_cohort`; also somebody else's, whose private folder is closed to us."""
    try:
        return (root / "private" / "cohort.json").is_file()
    except PermissionError:
        return (root / "runs").is_dir()


def refuse_links(root: Path) -> None:
    """Raise UsageError if a part of a cohort is a link: writing and clearing there would be done somewhere else."""
    names = (".tables", "runs", "private", "private/shards", "private/features", "private/lock", "validation")
    parts = [root / name for name in names]
    for path in [*parts, *root.glob("runs/*")]:
        if _is_link(path):
            raise UsageError(
                f"{path} is a link, and modic writes through no link inside a cohort; put the folder itself there, or"
                " mount its storage there"
            )


def _is_link(path: Path) -> bool:
    """Whether it is a link; in somebody else's private folder we could write nothing anyway."""
    try:
        return path.is_symlink()
    except PermissionError:
        return False


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
        make_folder(root.parent)
        root.mkdir(0o755, exist_ok=True)
        make_folder(root / "runs")
        private.mkdir(mode=0o700, exist_ok=True)
        write_json(private / "cohort.json", {"layout": LAYOUT})
    except OSError as error:
        raise UsageError(f"cannot create the cohort {root}: {error.strerror}") from error
