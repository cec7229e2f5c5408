"""Archive → header rows. Every file is accounted for, and a file that did not change is not opened again.

    files_seen = files_read + files_unchanged + the sum of `rejected` by reason

The index (in the cohort's private folder) remembers path, size, modification time and the outcome of every file,
refused ones included. Folders are walked in sorted order. A link to a place inside the archive is passed over, since
the place itself is walked; a link to a folder outside is followed once, unless that folder holds the archive.
"""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.errors import Reason, UsageError
from modic.headers import COLUMNS, WHOLE, read_rows
from modic.tables import write_table

__all__ = ["COLUMNS", "Crawl", "crawl"]

FILE = {"path": pa.string(), "size": pa.int64(), "mtime_ns": pa.int64()}
INDEX = pa.schema({**FILE, "reason": pa.string(), "frame": WHOLE, **COLUMNS}, metadata={"modic_index": "1"})
BATCH = 20_000  # rows held as Python objects
PROGRESS_EVERY = 200
AGAIN = -1
"""Modification time in the index of what could not be opened: permissions and mounts heal without a new one."""


@dataclass(frozen=True, eq=False)
class Crawl:
    """What an archive holds. `headers`: path, size, mtime_ns, frame and COLUMNS, one row a frame, sorted by path.

    `rejected`: path, size, mtime_ns, reason. `counts`: files_seen, files_read, files_unchanged, rejected {reason: n};
    besides these files_opened (read now, refused ones included) and files_gone (in the index, not in the archive).
    """

    headers: pa.Table
    rejected: pa.Table
    counts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    mtime_ns: int
    trouble: Reason | None = None


def crawl(archive: Path, *, index: Path | None, on_progress: Callable[[int], None] | None = None) -> Crawl:
    """Read the headers of every file under `archive` that `index` does not know unchanged; rewrites `index`.

    Args:
        archive: folder of files of any kind and depth.
        index: parquet file to remember in; None reads everything and remembers nothing.
        on_progress: called now and then with the number of files seen so far.

    Raises UsageError where the archive is missing, no folder, cannot be listed, or holds no DICOM file.
    """
    if not archive.is_dir():
        raise UsageError(f"the archive {archive} " + ("is not a folder" if archive.exists() else "does not exist"))
    old = _read_index(index)
    known = _known(old)
    builder, kept, opened, seen = _Builder(), [], 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        for seen, file in enumerate(walk(archive), 1):
            entry = known.pop(file.path, None)
            if entry and entry[0] == (file.size, file.mtime_ns) and file.trouble is None:
                kept.append(entry[1])
            else:
                opened += file.trouble is None
                builder.add(*_read(file))
            if on_progress and seen % PROGRESS_EVERY == 0:
                on_progress(seen)
    if on_progress:
        on_progress(seen)
    unchanged = old.take(pa.array([row for rows in kept for row in rows], pa.int64()))
    fresh = builder.table()
    table = pa.concat_tables([unchanged, fresh]).sort_by([("path", "ascending"), ("frame", "ascending")])
    counts = {"files_seen": seen, **_counts(unchanged, fresh), "files_opened": opened, "files_gone": len(known)}
    if not _any_dicom(table):
        raise UsageError(f"the archive {archive} holds no DICOM file ({seen} files seen)")
    if index is not None and (opened or known or len(fresh)):
        write_table(table.replace_schema_metadata(INDEX.metadata), index)
    refused = pc.is_valid(table["reason"])
    headers = table.filter(pc.invert(refused)).drop_columns(["reason"])
    return Crawl(headers, table.filter(refused).select([*FILE, "reason"]), counts)


def _read(file: _File) -> tuple[_File, list[dict[str, Any]] | Reason]:
    if file.trouble is not None:
        return file, file.trouble
    try:
        return file, read_rows(file.path)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        return replace(file, mtime_ns=AGAIN), Reason.FILE_VANISHED if gone else Reason.FILE_UNREADABLE


def walk(archive: Path) -> Iterator[_File]:
    """Every file under `archive` once, in sorted order of folders and names."""
    root = archive.resolve()
    outside: set[Path] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if folder == str(root):
                raise UsageError(f"the archive {archive} cannot be listed: {error.strerror}") from error
            yield _File(_text(folder), -1, AGAIN, Reason.FILE_UNREADABLE)
            continue
        inner = []
        for entry in entries:
            if entry.is_symlink() and not _follow(Path(entry.path), root, outside):
                continue
            if entry.is_dir():
                inner.append(entry.path)
            else:
                yield _describe(entry)
        folders.extend(reversed(inner))


def _follow(link: Path, root: Path, outside: set[Path]) -> bool:
    """Whether a link leads to something that is not walked anyway."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # broken, or a loop of links: described as unreadable
        return True
    if target.is_relative_to(root) or root.is_relative_to(target):
        return False
    if any(target.is_relative_to(one) or one.is_relative_to(target) for one in outside):
        return False
    if target.is_dir():
        outside.add(target)
    return True


def _describe(entry: "os.DirEntry[str]") -> _File:
    path = _text(entry.path)
    try:
        status = entry.stat()
    except OSError:
        return _File(path, -1, AGAIN, Reason.FILE_UNREADABLE if entry.is_symlink() else Reason.FILE_VANISHED)
    regular = stat.S_ISREG(status.st_mode) and path == entry.path
    return _File(path, status.st_size, status.st_mtime_ns, None if regular else Reason.FILE_UNREADABLE)


def _text(path: str) -> str:
    """A path that a table can hold; a name that is not UTF-8 is shown escaped, and refused."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Builder:
    """Collects rows into tables, so that Python objects do not pile up."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []

    def add(self, file: _File, outcome: list[dict[str, Any]] | Reason) -> None:
        found = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns}
        if isinstance(outcome, Reason):
            self._rows.append({**found, "reason": str(outcome)})
        else:
            self._rows.extend({**found, "reason": None, **row} for row in outcome)
        if len(self._rows) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._rows, schema=INDEX))
        self._rows = []

    def table(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self._tables)


def _read_index(index: Path | None) -> pa.Table:
    """What the last crawl remembered; empty where there is no index, or one of another version or broken."""
    if index is not None and index.is_file():
        try:
            table = pq.read_table(index)
        except (pa.ArrowException, OSError):
            return INDEX.empty_table()
        if table.schema == INDEX and table.schema.metadata == INDEX.metadata:
            return table
    return INDEX.empty_table()


def _known(old: pa.Table) -> dict[str, tuple[tuple[int, int], list[int]]]:
    """Path → ((size, mtime_ns), its rows), for files that need not be opened again while they stay the same."""
    known: dict[str, tuple[tuple[int, int], list[int]]] = {}
    columns = [old[name].to_pylist() for name in ("path", "size", "mtime_ns")]
    for number, (path, size, mtime_ns) in enumerate(zip(*columns, strict=True)):
        known.setdefault(path, ((size, mtime_ns), []))[1].append(number)
    return known


def _counts(unchanged: pa.Table, fresh: pa.Table) -> dict[str, Any]:
    rejected: Counter[str] = Counter()
    files = []
    for table in (unchanged, fresh):
        reasons = table["reason"].drop_null().to_pylist()
        rejected.update(reasons)
        files.append(pc.count_distinct(table["path"]).as_py() - len(reasons))
    return {"files_read": files[1], "files_unchanged": files[0], "rejected": dict(sorted(rejected.items()))}


def _any_dicom(table: pa.Table) -> bool:
    return any(reason != Reason.FILE_NOT_DICOM for reason in pc.unique(table["reason"]).to_pylist())
