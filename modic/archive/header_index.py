"""The header index: what the crawl remembers of every file, refused ones included, in a Parquet file.

Only the columns COMPARED are held whole, of the files that it knew (`Known`) and of those that are new (`New`). The
others are read and written piece by piece, whatever an archive holds.
"""

import io
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.headers import COLUMNS, TEXT, WHOLE
from modic.archive.source import UNKNOWN_TIME, File
from modic.errors import ModicError, Reason
from modic.files import write_tables

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
GROUP = 20_000
"""Rows of the index that are held together: 15 MB."""
KEYS_AT_ONCE = 2_000
NOT_ASKED, KEPT, CHANGED = range(3)  # what a crawl has found of a file that the index knows
Place: TypeAlias = Path | pa.Buffer
"""Where an index lies: in a file, or in memory if nothing is to be remembered."""


class DamagedIndex(ModicError):
    """A part of the index cannot be read."""


@contextmanager
def reading(index: Place) -> Iterator[pq.ParquetFile]:
    """An index, open. Raises DamagedIndex, also for what the block reads of it."""
    with _told_as_damage(index), pq.ParquetFile(_source(index)) as file:
        yield file


@contextmanager
def _told_as_damage(index: Place) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DamagedIndex(f"{index} is damaged; delete it, and the next run reads all headers again") from error


def _source(index: Place) -> Path | pa.BufferReader:
    return index if isinstance(index, Path) else pa.BufferReader(index)


def read_compared(index: Place | None) -> pa.Table:
    """The columns COMPARED of what the last crawl remembered; empty if there is no index, or an older or broken one."""
    if index is not None:
        with suppress(pa.ArrowException, OSError):
            written = pq.read_schema(_source(index))
            if written == INDEX and written.metadata == INDEX.metadata:
                return pq.read_table(_source(index), columns=COMPARED, partitioning=None).select(COMPARED)
    return INDEX.empty_table().select(COMPARED)


def accepted(table: pa.Table) -> tuple[int, int]:
    """How many rows are of accepted files, and how many of containers."""
    return table["reason"].null_count, pc.sum(pc.equal(table["reason"], CONTAINER), min_count=0).as_py()


def refused_rows(table: pa.Table) -> int:
    """How many rows are of refused files."""
    return len(table) - sum(accepted(table))


@contextmanager
def new_rows(index: Path | None) -> Iterator["New"]:
    """Takes the rows of new files. Its scratch file lies beside the index, without a name, or in memory without one."""
    with (
        tempfile.TemporaryFile(dir=index.parent) if index else io.BytesIO() as file,
        pq.ParquetWriter(file, INDEX, compression="lz4") as writer,
    ):
        yield New(file, writer)


class New:
    """The rows of the files that are read now: all columns in a scratch file, COMPARED also in memory."""

    def __init__(self, file: IO[bytes], writer: pq.ParquetWriter) -> None:
        self.compared: list[pa.Table] = []
        self.files = self.opened = self.refused = 0
        self._file, self._writer = file, writer
        self._waiting: list[pa.Table] = []

    def add(self, files: list[File], rows: pa.Table) -> None:
        """Add files and their rows (INDEX)."""
        self.files += sum(not file.container for file in files)
        self.opened += sum(not file.refused for file in files)
        self.refused += refused_rows(rows)
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= GROUP:
            self._write()

    def _write(self) -> None:
        """Write the tables that wait as one, which copies them out of the memory in which other processes sent them."""
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._writer.write_table(rows, row_group_size=GROUP)
        self.compared.append(rows.select(COMPARED))
        self._waiting.clear()

    def end(self) -> None:
        """Write what waits; nothing can be added any more."""
        if self._waiting:
            self._write()
        self._writer.close()

    def open(self) -> pq.ParquetFile:
        """All rows, once they have ended."""
        return pq.ParquetFile(self._file)


class Known:
    """The files of an index, to be compared with those of the archive."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._size, self._mtime = (memoryview(table[name].to_numpy()) for name in ("size", "mtime_ns"))
        # a file is known by the hash of its key: of a million keys, which take 0.3 GB, two have the same (64-bit,
        # salted) hash in one of 30 million runs
        keys, containers = _hashes(table)
        hashes, rows, self._file_of_row = np.unique(keys, return_index=True, return_inverse=True)
        members = np.flatnonzero(containers[rows])
        self._members = members[np.argsort(containers[rows[members]])]  # files by the container that they are in
        self._inside = containers[rows[self._members]]
        self._hashes, self._row, self._outcome = hashes.data, rows.data, memoryview(bytearray(len(rows)))  # of a file
        self._is_container = pc.fill_null(pc.equal(table["reason"], CONTAINER), False).to_numpy()
        self.files_kept = 0

    def has(self, file: File) -> bool:
        """Whether the index knows this file as it is now. To be called once a file."""
        at = self._find(file)
        if at is None:
            return False
        row = self._row[at]
        same = file.size == self._size[row] and file.mtime_ns == self._mtime[row] != UNKNOWN_TIME
        kept = same and file.refused is None
        self._outcome[at] = KEPT if kept else CHANGED
        self.files_kept += kept
        return kept

    def has_container(self, file: File) -> bool:
        """Whether the index knows this container as it is now; its members are then known too."""
        at = self._find(file)
        reason = None if at is None else self.table["reason"][self._row[at]].as_py()
        if at is not None and reason == Reason.FILE_NOT_DICOM:  # by a version that opened none
            self._outcome[at] = CHANGED
            return False
        if not self.has(file):
            return False
        self.files_kept -= reason == CONTAINER
        start, end = (np.searchsorted(self._inside, hash(file.path), side) for side in ("left", "right"))
        members, outcome = self._members[start:end], np.asarray(self._outcome)
        members = members[outcome[members] == NOT_ASKED]
        outcome[members] = KEPT
        self.files_kept += len(members)
        return True

    def _find(self, file: File) -> int | None:
        """The number of a file that was not asked for yet."""
        key = hash(file.key)
        at = bisect_left(self._hashes, key)
        known = at < len(self._hashes) and self._hashes[at] == key
        return at if known and self._outcome[at] == NOT_ASKED else None

    @property
    def files_gone(self) -> int:
        """Number of files that `has` was never asked for."""
        rows = np.asarray(self._row)[np.asarray(self._outcome) == NOT_ASKED]
        return len(rows) - int(self._is_container[rows].sum())

    @property
    def holds(self) -> np.ndarray:
        """Whether each row of the table still holds, once `has` was asked for every file. bool."""
        return (np.asarray(self._outcome) == KEPT)[self._file_of_row]

    @property
    def reasons(self) -> pa.ChunkedArray:
        """The column `reason` of the rows that hold."""
        return self.table["reason"].filter(pa.array(self.holds))


def _hashes(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """For each row, the hash of its `File.key`, and of the path of the container that it is in, or 0. int64."""
    keys, containers = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
    for start in range(0, len(table), KEYS_AT_ONCE):
        part = table.slice(start, KEYS_AT_ONCE)
        paths, members = part["path"].to_pylist(), part["member"].to_pylist()
        for row, (path, member) in enumerate(zip(paths, members, strict=True), start):
            keys[row] = hash(path if member is None else f"{path}\0{member}")
            containers[row] = 0 if member is None else hash(path)
    return keys, containers


def merged(index: Path | None, known: Known, new: New) -> tuple[pa.Table, Place]:
    """Write the index anew, unless it holds as it is; returns its columns COMPARED and its place. Raises DamagedIndex.

    `known` and `new` lose their rows, which take much memory.
    """
    if index is not None and not new.compared and known.holds.all():
        return known.table, index
    order = _order([known.table, *new.compared], known.holds)
    pieces = _pieces(index if len(known.table) else None, new.open(), order)
    known.table, new.compared = known.table.slice(0, 0), []
    place = _write(pieces, index)
    return read_compared(place), place


def _order(parts: list[pa.Table], holds: np.ndarray) -> np.ndarray:
    """The numbers of the rows of all `parts` (COMPARED) in `ORDER`, without those of the first that do not hold."""
    ranks = [_ranks(part["reason"]) for part in parts]
    ranks[0] = pc.if_else(pa.array(holds), ranks[0], pa.scalar(3, pa.int8()))  # they come last, to be cut off
    keys = pa.concat_tables([part.select(["path", "member", "frame"]) for part in parts])
    keys = keys.append_column("rank", pa.chunked_array([chunk for rank in ranks for chunk in rank.chunks], pa.int8()))
    order = pc.sort_indices(keys, sort_keys=ORDER)
    return order[: len(order) - np.count_nonzero(~holds)].to_numpy()


def _ranks(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    """0 for an accepted file, 1 for a refused one, 2 for a container."""
    containers = pc.fill_null(pc.equal(reasons, CONTAINER), False).cast(pa.int8())
    return pc.add(pc.is_valid(reasons).cast(pa.int8()), containers)


def _write(pieces: Iterator[pa.Table], index: Path | None) -> Place:
    if index is not None:
        write_tables(pieces, INDEX, index)
        return index
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(content, INDEX) as writer:
        for piece in pieces:
            writer.write_table(piece)
    return content.getvalue()


def _pieces(index: Path | None, new: pq.ParquetFile, order: np.ndarray) -> Iterator[pa.Table]:
    """The rows of the old index, if there is one, and of the new file in `order`, piece by piece.

    Only the row groups that a piece needs are held. Raises DamagedIndex.
    """
    with reading(index) if index else nullcontext() as known:
        groups = [(file, group) for file in (known, new) if file for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *(file.metadata.row_group(group).num_rows for file, group in groups)])
        held: dict[int, pa.Table] = {}
        for start in range(0, len(order), GROUP):
            rows = order[start : start + GROUP].astype(np.int64)
            needed, place = np.unique(np.searchsorted(starts, rows, side="right") - 1, return_inverse=True)
            held = {n: held[n] if n in held else groups[n][0].read_row_group(groups[n][1]) for n in needed.tolist()}
            before = np.cumsum([0, *map(len, held.values())])[:-1]
            at = rows - starts[needed][place] + before[place]
            yield pa.concat_tables(held.values()).unify_dictionaries().take(at)
