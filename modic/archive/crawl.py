"""Archive → header rows. Every file is accounted for, and an unchanged file is not opened again.

    files_seen = files_read + files_unchanged + the sum of `rejected` by reason

The index (a Parquet file in the cohort's private folder) remembers path, size, modification time and the outcome of
every file, refused ones included. A source (modic/archive/source.py) lists the files and reads their headers. A file
in a container counts as a file; the container itself counts only if it is refused, and is opened only if it changed.
"""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.headers import COLUMNS, TEXT, WHOLE
from modic.archive.source import UNKNOWN_TIME, File, Row, Source, Unopened
from modic.archive.sources import check_archive, source_of
from modic.errors import CURES, ModicError, Reason, UsageError
from modic.files import ROW_GROUP, write_table, write_tables
from modic.text import counted

__all__ = ["COLUMNS", "Crawl", "crawl"]

REPEATED = pa.dictionary(pa.int32(), TEXT)  # text that many files share is held once
STORED = {name: REPEATED if kind is TEXT and name != "SOPInstanceUID" else kind for name, kind in COLUMNS.items()}
FILE = {"path": TEXT, "size": pa.int64(), "mtime_ns": pa.int64()}
MEMBER = pa.field("member", TEXT)  # of a container that `path` names; null for a plain file
CONTAINER = "container"  # stands for a reason in the row of a container whose members the index holds
ORDER = [(name, "ascending") for name in ("rank", "path", "member", "frame")]  # of an index: refused files, containers
VERSION = {"modic_index": "6"}  # raised if what is read from headers changes: all headers are then read again
INDEX = pa.schema([*FILE.items(), MEMBER, ("reason", TEXT), ("frame", WHOLE), *STORED.items()], metadata=VERSION)
HEADERS = pa.schema([field for field in INDEX if field.name != "reason"])
IMAGES = [*FILE, "member", "frame", "StudyInstanceUID"]
COMPARED = [*IMAGES, "reason"]
"""Columns of the index that are read if nothing changed: the others take a gigabyte for a million files."""
BATCH = 500  # files read at a time: their rows are Python objects until then, and a process's piece of work
MIN_FOR_PROCESSES = 4_000  # fewer files are read sooner than processes are started
MAX_WAITING = 50  # batches that have been listed and not been read
MERGED_TABLES = 50  # tables of one batch that are made one
Batch = tuple[list[File], pa.Table]


@dataclass(frozen=True, eq=False)
class Crawl:
    """What an archive holds.

    `images`: the columns IMAGES, one row a frame, sorted by path.
    `rejected`: path, size, mtime_ns, member, reason.
    `counts`: files_seen, files_read, files_unchanged, rejected {reason: n}; besides these files_opened (read now,
    refused ones included) and files_gone (in the index, not in the archive).
    """

    images: pa.Table
    rejected: pa.Table
    counts: dict[str, Any]
    _whole: pa.Table | Path  # of HEADERS; or the index, whose first rows they are

    @property
    def headers(self) -> pa.Table:
        """The columns HEADERS (those of `images` and COLUMNS), with the rows of `images`."""
        return self.columns(HEADERS.names)

    def columns(self, names: list[str]) -> pa.Table:
        """Some columns of HEADERS, with the rows of `images`. Raises DamagedIndex."""
        if isinstance(self._whole, pa.Table):
            return self._whole.select(names)
        with _reading(self._whole):
            return pq.read_table(self._whole, columns=names, partitioning=None).slice(0, len(self.images))

    def headers_of(self, wanted: pa.ChunkedArray) -> pa.Table:
        """The rows of `headers` for which `wanted` (bool, one value a row) is true; holds no others in memory.

        Raises DamagedIndex.
        """
        if isinstance(self._whole, pa.Table):
            return self._whole.filter(wanted)
        parts, start = [HEADERS.empty_table()], 0
        with _reading(self._whole), pq.ParquetFile(self._whole) as file:
            for group in range(file.num_row_groups):
                here = wanted.slice(start, file.metadata.row_group(group).num_rows)
                if pc.any(here).as_py():
                    rows = file.read_row_group(group, columns=HEADERS.names).slice(0, len(here))
                    parts.append(rows.filter(here).combine_chunks())
                start += len(here)
        return pa.concat_tables(parts)


class DamagedIndex(ModicError):
    """A part of the index cannot be read."""


@contextmanager
def _reading(index: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DamagedIndex(f"{index} is damaged; delete it, and the next run reads all headers again") from error


def crawl(
    archive: Path | Source,
    *,
    index: Path | None,
    on_progress: Callable[[int], None] | None = None,
    processes: int = 1,
) -> Crawl:
    """Read the headers of every file of `archive` that `index` does not know unchanged; rewrites `index`.

    Args:
        archive: folder of files of any kind and depth, or a zip or tar file, or another source of files.
        index: Parquet file to remember in; None reads everything and remembers nothing.
        on_progress: called now and then with the number of files dealt with so far.
        processes: number of processes that read headers, if there are many to read.

    Raises UsageError if the archive is missing, is no folder, cannot be listed, or holds no DICOM file.
    """
    if isinstance(archive, Path):
        check_archive(str(archive))
    source = source_of(archive) if isinstance(archive, Path) else archive
    files = source.files()
    known = _Known(_read_index(index))
    tables: list[pa.Table] = []
    new, opened, changed = 0, 0, False
    for batch, table in _read_all(source, _new_files(source, files, known), processes):
        _add(table, tables)
        new, opened = new + sum(not file.container for file in batch), opened + sum(not file.refused for file in batch)
        changed = True
        if on_progress:
            on_progress(known.files_kept + new)
    kept, dropped, gone = known.files_kept, known.dropped(), known.files_gone
    refused_now = sum(len(table) - sum(_accepted(table)) for table in tables)
    table, known_files = known.table, len(known.table)
    del known
    if changed := changed or len(dropped) > 0:
        order = _order([table, *tables], dropped)
        table = _arranged([table, *(part.select(COMPARED) for part in tables)], order)
    accepted, containers = _accepted(table)
    refused = len(table) - accepted - containers
    if not _any_dicom(table):
        seen = f"{counted(kept + new, 'file')} seen"
        raise UsageError(f"the archive {source.name} holds no DICOM file ({seen}{_packed(source, table)})")
    whole: pa.Table | Path = index or INDEX.empty_table()
    if changed and index is not None and known_files:
        try:
            write_tables(_merged(index, known_files, tables, order), INDEX, index)
        except DamagedIndex:  # in a column that was not compared
            index.unlink()
            return crawl(source, index=index, on_progress=on_progress, processes=processes)
    elif changed:
        every = _arranged(tables, order)
        if index is None:
            whole = every.slice(0, accepted).select(HEADERS.names)
        else:
            write_table(every.replace_schema_metadata(INDEX.metadata), index)
    images, rejected = table.slice(0, accepted).select(IMAGES), table.slice(accepted, refused)
    counts = {
        "files_seen": kept + new,
        "files_read": new - refused_now,
        "files_unchanged": kept - (refused - refused_now),
        "rejected": dict(sorted(Counter(rejected["reason"].to_pylist()).items())),
        "files_opened": opened,
        "files_gone": gone,
    }
    return Crawl(images, rejected.select([*FILE, "member", "reason"]), counts, whole)


def _new_files(source: Source, files: Iterable[File], known: "_Known") -> Iterator[File]:
    """The files that the index does not know as they are now, those inside containers included, and new containers."""
    for file in files:
        if not file.container:
            if not known.has(file):
                yield file
        elif not known.has_container(file):
            yield from _new_members(source, file, known)


def _new_members(source: Source, container: File, known: "_Known") -> Iterator[File]:
    """The members of a container that the index does not know, and the container, unless it is a plain file."""
    outcome = container
    try:
        for file in source.members(container):
            if file.member is None:
                outcome = file
            elif not known.has(file):
                yield file
    except Unopened as refused:
        outcome = container._replace(refused=refused.reason, container=False)
    except OSError as error:
        outcome = container._replace(mtime_ns=UNKNOWN_TIME, refused=_reason_of(error), container=False)
    yield outcome


def _accepted(table: pa.Table) -> tuple[int, int]:
    """How many rows are of accepted files, and how many of containers."""
    return table["reason"].null_count, pc.sum(pc.equal(table["reason"], CONTAINER), min_count=0).as_py()


def _add(table: pa.Table, tables: list[pa.Table]) -> None:
    """Append to `tables`; if the last ones are many and small, they become one.

    That copies the rows that other processes sent out of the memory in which they came, so that it can be used again.
    """
    tables.append(table)
    if len(tables) >= MERGED_TABLES and all(len(last) <= BATCH for last in tables[-MERGED_TABLES:]):
        tables[-MERGED_TABLES:] = [pa.concat_tables(tables[-MERGED_TABLES:]).combine_chunks()]


def _arranged(parts: list[pa.Table], order: pa.Array) -> pa.Table:
    """The rows of all `parts` in `order`. Empties `parts`, a column at a time, so that only one is held twice."""
    schema, columns = parts[0].schema, []
    for field in schema:
        chunks = [chunk for part in parts for chunk in part[field.name].chunks]
        parts[:] = [part.remove_column(0) for part in parts]
        columns.append(pa.chunked_array(chunks, field.type).unify_dictionaries().take(order))
    parts.clear()
    return pa.table(columns, schema=schema)


def _merged(index: Path, known: int, tables: list[pa.Table], order: pa.Array) -> Iterator[pa.Table]:
    """The rows of an index of `known` rows and of `tables` in `order`, piece by piece: the index is never held whole.

    Raises DamagedIndex.
    """
    new = pa.concat_tables([INDEX.empty_table(), *tables]).unify_dictionaries()
    with _reading(index), pq.ParquetFile(index) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        held: dict[int, pa.Table] = {}
        for start in range(0, len(order), ROW_GROUP):
            here = order.slice(start, ROW_GROUP).to_numpy()
            old = here < known
            group_of = np.searchsorted(starts, here[old], side="right") - 1
            groups = np.unique(group_of)
            held = {group: held.get(group) or file.read_row_group(group) for group in groups.tolist()}
            before = np.cumsum([0, *(sizes[group] for group in held)])
            at = np.empty(len(here), np.int64)
            at[old] = here[old] - starts[group_of] + before[np.searchsorted(groups, group_of)]
            at[~old] = before[-1] + np.arange(np.count_nonzero(~old))
            rows = pa.concat_tables([*held.values(), new.take(here[~old] - known)])
            yield rows.unify_dictionaries().take(at)


def _order(parts: list[pa.Table], dropped: pa.Array) -> pa.Array:
    """The numbers of the rows of all `parts` in `ORDER`, without the first part's whose key is in `dropped`."""
    ranks = [_ranks(part["reason"]) for part in parts]
    stale = pc.is_in(_keys(parts[0]), dropped)
    ranks[0] = pc.if_else(stale, pa.scalar(3, pa.int8()), ranks[0])  # they come last, to be cut off
    keys = pa.concat_tables([part.select(["path", "member", "frame"]) for part in parts])
    keys = keys.append_column("rank", pa.chunked_array([chunk for rank in ranks for chunk in rank.chunks], pa.int8()))
    return pc.sort_indices(keys, sort_keys=ORDER)[: len(keys) - pc.sum(stale, min_count=0).as_py()]


def _ranks(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    """0 for an accepted file, 1 for a refused one, 2 for a container."""
    containers = pc.fill_null(pc.equal(reasons, CONTAINER), False).cast(pa.int8())
    return pc.add(pc.is_valid(reasons).cast(pa.int8()), containers)


def _keys(table: pa.Table) -> pa.ChunkedArray:
    """`File.key` of each row."""
    path, member = table["path"], table["member"]
    if member.null_count == len(member):
        return path
    return pc.if_else(pc.is_null(member), path, pc.binary_join_element_wise(path, member, "\0"))


def _read_all(source: Source, files: Iterator[File], processes: int) -> Iterator[Batch]:
    """`files` in batches, in their order, each with its table of INDEX."""
    first = list(islice(files, MIN_FOR_PROCESSES + 1))
    batches = _batches(chain(first, files))
    if processes > 1 and len(first) > MIN_FOR_PROCESSES:
        return _in_processes(source, batches, processes)
    return ((batch, _read_batch(source, batch)) for batch in batches)


def _batches(files: Iterator[File]) -> Iterator[list[File]]:
    while batch := list(islice(files, BATCH)):
        yield batch


def _in_processes(source: Source, batches: Iterable[list[File]], processes: int) -> Iterator[Batch]:
    """Each batch with what `_read_batch` returns for it in another process, while more files are listed here.

    A batch is read in this process if others cannot be started, or die.
    """
    pool = ProcessPoolExecutor(processes, mp_context=get_context("forkserver"))
    read = partial(_read_batch, source)
    waiting: deque[tuple[list[File], Future[pa.Table]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, _submit(pool, read, batch)))
            if len(waiting) == MAX_WAITING:
                yield _result(read, *waiting.popleft())
        while waiting:
            yield _result(read, *waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # the processes end while the tables are arranged


Read = Callable[[list[File]], pa.Table]


def _submit(pool: ProcessPoolExecutor, read: Read, batch: list[File]) -> "Future[pa.Table]":
    try:
        return pool.submit(read, batch)
    except BrokenProcessPool as error:
        broken: Future[pa.Table] = Future()
        broken.set_exception(error)
        return broken


def _result(read: Read, batch: list[File], table: "Future[pa.Table]") -> Batch:
    try:
        return batch, table.result()
    except BrokenProcessPool:
        return batch, read(batch)


def _read_batch(source: Source, files: list[File]) -> pa.Table:
    """The rows of some files."""
    rows: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        for file in files:
            refused = CONTAINER if file.container else file.refused
            mtime_ns, outcome = (file.mtime_ns, refused) if refused else _read(source, file)
            known = {"path": file.path, "size": file.size, "mtime_ns": mtime_ns, "member": file.member, "reason": None}
            if isinstance(outcome, str):
                rows.append({**known, "reason": str(outcome)})
            else:
                rows.extend({**known, **row} for row in outcome)
    return pa.Table.from_pylist(rows, schema=INDEX)


def _read(source: Source, file: File) -> tuple[int, list[Row] | Reason]:
    """The modification time to remember, and the rows of a file or the reason why it has none."""
    try:
        return file.mtime_ns, source.read_rows(file.path, file.member)
    except OSError as error:
        return UNKNOWN_TIME, _reason_of(error)


def _reason_of(error: OSError) -> Reason:
    return Reason.FILE_VANISHED if isinstance(error, FileNotFoundError) else Reason.FILE_UNREADABLE


class _Known:
    """The files of an index, to be compared with those of the archive."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._size, self._mtime = (memoryview(table[name].to_numpy()) for name in ("size", "mtime_ns"))
        # hash of a file's key → the first of its rows: the keys are 0.3 GB for a million files, of which two have the
        # same (64-bit, salted) hash in one of 30 million runs
        self._row: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}  # hash of a container's path → hashes of its members' keys
        self._keys = _keys(table)
        self._reasons = table["reason"]
        self._is_container = pc.fill_null(pc.equal(table["reason"], CONTAINER), False).to_numpy()
        for start in range(0, len(table), BATCH):
            for row, key in enumerate(self._keys.slice(start, BATCH).to_pylist(), start):
                if self._row.setdefault(hash(key), row) == row and "\0" in key:
                    self._members.setdefault(hash(key.partition("\0")[0]), []).append(hash(key))
        self._changed: list[int] = []
        self.files_kept = 0

    def has(self, file: File) -> bool:
        """Whether the index knows this file as it is now. To be called once a file."""
        row = self._row.pop(hash(file.key), None)
        if row is None:
            return False
        known = (file.size, file.mtime_ns) == (self._size[row], self._mtime[row]) and file.mtime_ns != UNKNOWN_TIME
        if known and file.refused is None:
            self.files_kept += 1
            return True
        self._changed.append(row)
        return False

    def has_container(self, file: File) -> bool:
        """Whether the index knows this container as it is now; its members are then known too."""
        row = self._row.get(hash(file.key))
        if row is not None and self._reasons[row].as_py() == Reason.FILE_NOT_DICOM:  # by a version that opened none
            row = self._row.pop(hash(file.key))
            self._changed.append(row)
            return False
        if not self.has(file):
            return False
        self.files_kept -= bool(self._is_container[row])
        members = self._members.pop(hash(file.path), [])
        self.files_kept += sum(self._row.pop(key, None) is not None for key in members)
        return True

    @property
    def files_gone(self) -> int:
        """Number of files that `has` was never asked for."""
        return len(self._row) - int(self._is_container[list(self._row.values())].sum())

    def dropped(self) -> pa.Array:
        """Keys of the files whose rows no longer hold, once `has` was asked for every file: changed or gone."""
        return self._keys.take(pa.array([*self._changed, *self._row.values()], WHOLE))


def _read_index(index: Path | None) -> pa.Table:
    """The columns COMPARED of what the last crawl remembered; empty if there is no index, or an older or broken one."""
    if index is not None and index.is_file():
        with suppress(pa.ArrowException, OSError):
            written = pq.read_schema(index)
            if written == INDEX and written.metadata == INDEX.metadata:
                return pq.read_table(index, columns=COMPARED, partitioning=None).select(COMPARED)
    return INDEX.empty_table().select(COMPARED)


PACKED = {
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
}
READ = {"zip": ".zip", "gzip": ".gz or .tar.gz", "tar": ".tar"}  # if their names end so (modic/archive/containers.py)
TAR = b"ustar"  # from byte 257
MAX_ASKED = 200  # files whose first bytes are read


def _packed(source: Source, table: pa.Table) -> str:
    """What to do if files are packed: `; 3 7z among the first 200: …`; empty if none is."""
    kinds: Counter[str] = Counter()
    refused = {reason for reason in table["reason"].to_pylist() if reason in CURES}
    asked = table.filter(pc.equal(table["reason"], Reason.FILE_NOT_DICOM)).slice(0, MAX_ASKED)
    for path, member in zip(*(asked[name].to_pylist() for name in ("path", "member")), strict=True):
        with suppress(OSError), source.open(path, member) as file:
            head = file.read(262)
            kind = next((name for mark, name in PACKED.items() if head.startswith(mark)), "")
            kinds[kind or ("tar" if head[257:] == TAR else "")] += 1
    del kinds[""]
    counts = ", ".join(f"{n} {name}" for name, n in kinds.most_common())
    cures = [f"let the names of {kind} files end in {READ[kind]}, to have them read" for kind in kinds if kind in READ]
    cures += ["unpack them into folders and grade these"] if kinds.keys() - READ.keys() else []
    said = [f"{counts} among the first {MAX_ASKED}: {'; '.join(cures)}"] if counts else []
    return "".join(f"; {text}" for text in (*said, *sorted(f"{reason}: {CURES[Reason(reason)]}" for reason in refused)))


NO_IMAGE = (Reason.FILE_NOT_DICOM, CONTAINER, *CURES)


def _any_dicom(table: pa.Table) -> bool:
    return any(reason not in NO_IMAGE for reason in pc.unique(table["reason"]).to_pylist())
