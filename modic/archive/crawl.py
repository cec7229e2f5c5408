"""Archive → header rows. Every file is accounted for, and a file that did not change is not opened again.

    files_seen = files_read + files_unchanged + the sum of `rejected` by reason

The index (in the cohort's private folder) remembers path, size, modification time and the outcome of every file,
refused ones included. Files are found by modic/archive/walk.py and read by modic/archive/headers.py.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.headers import COLUMNS, TEXT, WHOLE, read_rows
from modic.archive.walk import AGAIN, File, on_disk, walk
from modic.errors import Reason, UsageError
from modic.files import write_table

__all__ = ["COLUMNS", "Crawl", "crawl"]

REPEATED = pa.dictionary(pa.int32(), TEXT)  # text that many files share is held once
STORED = {name: REPEATED if kind is TEXT and name != "SOPInstanceUID" else kind for name, kind in COLUMNS.items()}
FILE = {"path": TEXT, "size": pa.int64(), "mtime_ns": pa.int64()}
ORDER = [("rank", "ascending"), ("path", "ascending"), ("frame", "ascending")]  # of an index: refused files last
INDEX = pa.schema({**FILE, "reason": TEXT, "frame": WHOLE, **STORED}, metadata={"modic_index": "4"})
BATCH = 2_000  # files read at a time: their rows are Python objects until then, and a process's piece of work
FEW = 20_000  # files that are sooner read than processes are started
AHEAD = 50  # batches at most whose files have been found and not been read
SMALL = 50  # tables of one batch that are made one


@dataclass(frozen=True, eq=False)
class Crawl:
    """What an archive holds. `headers`: path, size, mtime_ns, frame and COLUMNS, one row a frame, sorted by path.

    `rejected`: path, size, mtime_ns, reason. `counts`: files_seen, files_read, files_unchanged, rejected {reason: n};
    besides these files_opened (read now, refused ones included) and files_gone (in the index, not in the archive).
    """

    headers: pa.Table
    rejected: pa.Table
    counts: dict[str, Any]


def crawl(
    archive: Path, *, index: Path | None, on_progress: Callable[[int], None] | None = None, processes: int = 1
) -> Crawl:
    """Read the headers of every file under `archive` that `index` does not know unchanged; rewrites `index`.

    Args:
        archive: folder of files of any kind and depth.
        index: parquet file to remember in; None reads everything and remembers nothing.
        on_progress: called now and then with the number of files dealt with so far.
        processes: that read headers, where there are many to read.

    Raises UsageError where the archive is missing, no folder, cannot be listed, or holds no DICOM file.
    """
    if not archive.is_dir():
        raise UsageError(f"the archive {archive} " + ("is not a folder" if archive.exists() else "does not exist"))
    known = _Known(_read_index(index))
    tables: list[pa.Table] = []
    new, opened = 0, 0
    for batch, table in _read_all((file for file in walk(archive) if not known.has(file)), processes):
        _add(table, tables)
        new, opened = new + len(batch), opened + sum(trouble is None for *_, trouble in batch)
        if on_progress:
            on_progress(known.files_kept + new)
    kept, dropped, gone = known.files_kept, known.dropped(), known.files_gone
    refused_now = sum(len(table) - table["reason"].null_count for table in tables)
    parts = [known.table, *tables]
    del known, tables  # of a million files each copy takes most of a gigabyte
    table = _arranged(parts, dropped) if new or len(dropped) else parts.pop()
    refused = len(table) - table["reason"].null_count
    if not _any_dicom(table):
        raise UsageError(f"the archive {archive} holds no DICOM file ({kept + new} files seen)")
    if index is not None and (new or len(dropped)):
        write_table(table.replace_schema_metadata(INDEX.metadata), index)
    headers, rejected = table.slice(0, len(table) - refused), table.slice(len(table) - refused)
    counts = {
        "files_seen": kept + new,
        "files_read": new - refused_now,
        "files_unchanged": kept - (refused - refused_now),
        "rejected": dict(sorted(Counter(rejected["reason"].to_pylist()).items())),
        "files_opened": opened,
        "files_gone": gone,
    }
    return Crawl(headers.drop_columns(["reason"]), rejected.select([*FILE, "reason"]), counts)


def _add(table: pa.Table, tables: list[pa.Table]) -> None:
    """Append to `tables`, of which the last, where they are many and small, become one.

    That copies what other processes have sent out of the memory in which it came, for what they send next.
    """
    tables.append(table)
    if len(tables) >= SMALL and all(len(one) <= BATCH for one in tables[-SMALL:]):
        tables[-SMALL:] = [pa.concat_tables(tables[-SMALL:]).combine_chunks()]


def _arranged(parts: list[pa.Table], dropped: pa.ChunkedArray) -> pa.Table:
    """The rows of all `parts`, but for those of the first whose path is in `dropped`, in `ORDER`.

    Empties `parts`, a column at a time, so that no more than one is held twice.
    """
    order = _order(parts, dropped)
    columns = []
    for name in INDEX.names:
        chunks = [chunk for part in parts for chunk in part[name].chunks]
        parts[:] = [part.remove_column(0) for part in parts]
        columns.append(pa.chunked_array(chunks, INDEX.field(name).type).unify_dictionaries().take(order))
    parts.clear()
    return pa.table(columns, schema=INDEX)


def _order(parts: list[pa.Table], dropped: pa.ChunkedArray) -> pa.Array:
    """The numbers of the rows that stay, as `_arranged` wants them."""
    ranks = [pc.is_valid(part["reason"]).cast(pa.int8()) for part in parts]
    stale = pc.is_in(parts[0]["path"], dropped)
    ranks[0] = pc.if_else(stale, pa.scalar(2, pa.int8()), ranks[0])  # they come last, to be cut off
    keys = pa.concat_tables([part.select(["path", "frame"]) for part in parts])
    keys = keys.append_column("rank", pa.chunked_array([chunk for rank in ranks for chunk in rank.chunks], pa.int8()))
    return pc.sort_indices(keys, sort_keys=ORDER)[: len(keys) - pc.sum(stale, min_count=0).as_py()]


def _read_all(files: Iterator[File], processes: int) -> Iterator[tuple[list[File], pa.Table]]:
    """`files` in batches, in their order, each with its table of INDEX."""
    first = list(islice(files, FEW + 1))
    batches = _batches(chain(first, files))
    if processes > 1 and len(first) > FEW:
        return _in_processes(batches, processes)
    return ((batch, _read_batch(batch)) for batch in batches)


def _batches(files: Iterator[File]) -> Iterator[list[File]]:
    while batch := list(islice(files, BATCH)):
        yield batch


def _in_processes(batches: Iterator[list[File]], processes: int) -> Iterator[tuple[list[File], pa.Table]]:
    """Each batch with what `_read_batch` returns for it, in other processes: these start while more files are found.

    Read here where processes cannot be started, or die.
    """
    context = get_context("forkserver")  # imports everything once, not once a process
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(processes, mp_context=context)
    waiting: deque[tuple[list[File], Future[pa.Table]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, _handed_over(pool, batch)))
            if len(waiting) == AHEAD:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what is read is arranged while they end


def _handed_over(pool: ProcessPoolExecutor, batch: list[File]) -> "Future[pa.Table]":
    try:
        return pool.submit(_read_batch, batch)
    except BrokenProcessPool as error:
        broken: Future[pa.Table] = Future()
        broken.set_exception(error)
        return broken


def _taken(batch: list[File], table: "Future[pa.Table]") -> tuple[list[File], pa.Table]:
    try:
        return batch, table.result()
    except BrokenProcessPool:
        return batch, _read_batch(batch)


def _read_batch(files: list[File]) -> pa.Table:
    """The rows of some files."""
    rows: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        for path, size, mtime_ns, trouble in files:
            mtime_ns, outcome = (mtime_ns, trouble) if trouble else _read(path, mtime_ns)
            found = {"path": path, "size": size, "mtime_ns": mtime_ns, "reason": None}
            if isinstance(outcome, Reason):
                rows.append({**found, "reason": str(outcome)})
            else:
                rows.extend({**found, **row} for row in outcome)
    return pa.Table.from_pylist(rows, schema=INDEX)


def _read(path: str, mtime_ns: int) -> tuple[int, list[dict[str, Any]] | Reason]:
    """The modification time to remember, and the rows of a file or why it has none."""
    try:
        return mtime_ns, read_rows(on_disk(path))
    except OSError as error:
        return AGAIN, Reason.FILE_VANISHED if isinstance(error, FileNotFoundError) else Reason.FILE_UNREADABLE


class _Known:
    """The files of an index: those that `has` did not confirm are changed, or gone once all files have been asked."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._size, self._mtime = (table[name].to_numpy() for name in ("size", "mtime_ns"))
        # hash of a path → the first of its rows: paths are 0.3 GB for a million files, of which two have the same
        # (64-bit, salted) hash in one of 30 million runs
        self._row: dict[int, int] = {}
        for start in range(0, len(table), BATCH):
            for row, path in enumerate(table["path"].slice(start, BATCH).to_pylist(), start):
                self._row.setdefault(hash(path), row)
        self._changed: list[int] = []
        self.files_kept = 0

    def has(self, file: File) -> bool:
        """Whether the index knows this file as it is now. To be asked once a file."""
        path, size, mtime_ns, trouble = file
        row = self._row.pop(hash(path), None)
        if row is None:
            return False
        if trouble is None and self._size[row] == size and self._mtime[row] == mtime_ns:
            self.files_kept += 1
            return True
        self._changed.append(row)
        return False

    @property
    def files_gone(self) -> int:
        """Files that nobody asked for."""
        return len(self._row)

    def dropped(self) -> pa.ChunkedArray:
        """Paths whose rows no longer hold."""
        return self.table["path"].take(pa.array([*self._changed, *self._row.values()], WHOLE))


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


def _any_dicom(table: pa.Table) -> bool:
    return any(reason != Reason.FILE_NOT_DICOM for reason in pc.unique(table["reason"]).to_pylist())
