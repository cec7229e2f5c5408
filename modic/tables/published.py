"""Which folder holds the published tables, how it becomes the current one, and when an older one may go.

Each run publishes a folder `.tables/<run_id>-<8 hex digits>`, which never changes. `current` is a link to the last of
them. On file systems without links (exFAT, some network shares) the file `.tables/current` names the last one, and
`current` is a folder with a copy of its files, for readers who do not ask modic.
"""

import errno
import os
import re
import secrets
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modic.cohort import RUN_ID, Cohort, is_cohort, remove
from modic.errors import UsageError
from modic.files import is_left_over, make_folder, sync_directory, time_there, write_whole
from modic.tables.schema import SCHEMAS

FOLDER = re.compile(RUN_ID.pattern + "-[0-9a-f]{8}")
NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})
"""What file systems answer that have no symbolic links."""
ANEW = "make-tables-anew"
"""A file in `private/` by which the user says that the published tables are lost."""


def new_folder(cohort: Path, run_id: str) -> Path:
    """An empty folder for the tables of a run."""
    return make_folder(cohort / ".tables" / f"{run_id}-{secrets.token_hex(4)}")


def run_of(folder: Path) -> str:
    """The run that published a folder of `.tables`."""
    return folder.name.rsplit("-", 1)[0]


def is_whole(folder: Path) -> bool:
    """Whether all four tables of a folder can be opened: their last bytes are there."""
    try:
        for name in SCHEMAS:
            pq.read_metadata(folder / f"{name}.parquet")
    except (OSError, pa.ArrowException):
        return False
    return True


def published_folders(cohort: Path) -> list[Path]:
    """The folders of `.tables` with all four tables, in the order of their runs."""
    folders = [path for path in (cohort / ".tables").glob("*") if FOLDER.fullmatch(path.name)]
    whole = [path for path in folders if path.is_dir() and not path.is_symlink() and is_whole(path)]
    return sorted(whole, key=lambda path: (run_of(path), path.stat().st_mtime_ns))


def current_tables(cohort: Path) -> Path | None:
    """The folder of the current tables; None if no run has published yet.

    | `current` is                                  | the folder is                                                  |
    |-----------------------------------------------|----------------------------------------------------------------|
    | a link to a folder of `.tables`               | that one                                                       |
    | a folder                                      | the one that `.tables/current` names, or else `current` itself |
    | missing, a file, a link that leads nowhere    | the one that `.tables/current` names, or else the newest whole |

    Raises UsageError if a table is missing there, if a link leads out of `.tables`, or if there are no tables although
    a run has published.
    """
    current = cohort / "current"
    if current.is_symlink() and current.exists():
        target = current.resolve()
        if target.parent != (cohort / ".tables").resolve():
            raise UsageError(f"{current} leads out of .tables, to {target}; delete the link: the next run makes it")
        return _with_all_tables(target, current)
    named = _named(cohort)
    if named or current.is_dir():
        return named or _with_all_tables(current, current)
    if newest := published_folders(cohort)[-1:]:
        return newest[0]
    if (trace := _trace(cohort)) and not (cohort / "private" / ANEW).exists():
        raise UsageError(
            f"the tables of {cohort} are lost: {trace}, and .tables holds no whole ones. Copy `current` and the hidden"
            f" folder `.tables` from a backup, or from where the cohort was copied from (cp -a keeps both). If they are"
            f" gone for good, `touch {cohort / 'private' / ANEW}`: the next run makes tables anew from the finished"
            " shards, without the studies that left the archive"
        )
    return None


def tables_of(cohort: Path, run_id: str) -> Path:
    """The folder that a run published. Raises UsageError if it is not kept."""
    kept = published_folders(cohort)
    folders = [folder for folder in kept if run_of(folder) == run_id]
    if not folders:
        have = ", ".join(dict.fromkeys(map(run_of, kept)))
        raise UsageError(f"{cohort} keeps no tables of run {run_id}; it keeps those of {have or 'none'}")
    return folders[-1].resolve()


def _with_all_tables(folder: Path, current: Path) -> Path:
    if missing := [name for name in SCHEMAS if not (folder / f"{name}.parquet").is_file()]:
        raise UsageError(
            f"{current} lacks {', '.join(missing)}.parquet; restore it from a backup, or delete `current`: the next run"
            " goes on from the newest whole tables in .tables"
        )
    return folder


def _named(cohort: Path) -> Path | None:
    """The whole folder that the file `.tables/current` names, if there is one."""
    with suppress(OSError, UnicodeDecodeError):
        name = (cohort / ".tables" / "current").read_text(encoding="ascii").strip()
        folder = cohort / ".tables" / name
        if FOLDER.fullmatch(name) and not folder.is_symlink() and is_whole(folder):
            return folder.resolve()
    return None


def _trace(cohort: Path) -> str:
    """What says that a run has published here, in words; empty if nothing does."""
    if os.path.lexists(cohort / "current"):
        return "`current` leads nowhere"
    if any(all((folder / f"{name}.parquet").exists() for name in SCHEMAS) for folder in (cohort / ".tables").glob("*")):
        return "`current` is missing"
    with suppress(OSError):  # the private folder of somebody else
        if is_cohort(cohort) and (run := Cohort(cohort).facts().get("published")):
            return f"run {run} published them"
    if any(cohort.glob("runs/*/report.html")):
        return "there are reports of finished runs"
    return ""


def restore_current(cohort: Path) -> None:
    """Make `current` lead to the current tables again if it was lost. Callers hold the lock. Raises as above."""
    folder = current_tables(cohort)
    current = cohort / "current"
    if folder is not None and not current.is_dir():
        point_current(cohort, folder)


def point_current(cohort: Path, folder: Path) -> None:
    """Make `folder` the current one: in one atomic step, or with a file that names it where there are no links."""
    current, temporary = cohort / "current", cohort / f".current.{secrets.token_hex(4)}.tmp"
    name = cohort / ".tables" / "current"
    try:
        temporary.symlink_to(Path(".tables") / folder.name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy_current(cohort, folder, temporary)
        return
    _set_copy_aside(cohort, ours=name.exists())
    temporary.replace(current)
    name.unlink(missing_ok=True)
    sync_directory(cohort)


def _copy_current(cohort: Path, folder: Path, temporary: Path) -> None:
    ours = (cohort / ".tables" / "current").exists()
    write_whole(cohort / ".tables" / "current", folder.name)  # from here on, modic reads the new tables
    make_folder(temporary)
    for path in folder.iterdir():
        write_whole(temporary / path.name, path.read_bytes())
    _set_copy_aside(cohort, ours=ours)
    (cohort / "current").unlink(missing_ok=True)  # a file or a link where a folder is to be
    temporary.replace(cohort / "current")
    sync_directory(cohort)


def _set_copy_aside(cohort: Path, *, ours: bool) -> None:
    """Make room where `current` is a folder. A copy that modic made goes; any other is kept below `.tables`."""
    current = cohort / "current"
    if current.is_symlink() or not current.is_dir():
        return
    aside = cohort / f".current.{secrets.token_hex(4)}.tmp" if ours else _name_for(cohort, current)
    shutil.move(current, aside)  # an overlay file system may not rename a folder
    if ours:
        remove(aside)


def _name_for(cohort: Path, current: Path) -> Path:
    try:
        runs = pq.read_table(current / "runs.parquet", columns=["run_id"], partitioning=None)["run_id"].to_pylist()
    except (OSError, pa.ArrowException):
        runs = []
    last = max(filter(RUN_ID.fullmatch, runs), default="copied")
    return make_folder(cohort / ".tables") / f"{last}-{secrets.token_hex(4)}"


def remove_superseded(cohort: Path, current: Path, *, days: float) -> None:
    """Remove folders of `.tables` whose runs are all in the tables of `current`, if `days` passed since they were
    current, and unfinished ones of killed runs. Nothing else is known to be superfluous."""
    runs = pq.read_table(current / "runs.parquet", columns=["run_id", "finished"], partitioning=None).to_pydict()
    finished = dict(zip(runs["run_id"], runs["finished"], strict=True))
    now, there = datetime.now(UTC), time_there(current.parent)
    for folder in current.parent.glob("*"):
        if folder == current or not FOLDER.fullmatch(folder.name) or folder.is_symlink():
            continue
        if not is_whole(folder):
            over = is_left_over(folder, there) and not all((folder / f"{name}.parquet").exists() for name in SCHEMAS)
        else:
            over = _replaced(run_of(folder), finished, now) > timedelta(days=days)
        if over:
            remove(folder)


def _replaced(run_id: str, finished: dict[str, datetime], now: datetime) -> timedelta:
    """How long ago the next run published; negative if the tables do not hold this run."""
    if run_id not in finished:
        return timedelta(-1)
    later = sorted(run for run in finished if run > run_id)
    return now - (finished[later[0]] if later else finished[run_id])
