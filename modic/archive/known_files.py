"""The files that a crawl knew from the last one, those that are new, and the index of both for the next crawl.

Only the columns COMPARED of modic/archive/header_index.py are held whole, of the files that it knew (`Known`) and of
those that are new (`New`). The others are read and written piece by piece, whatever an archive holds.
"""

import io
import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.header_index import (
    COMPARED,
    CONTAINER,
    FILE,
    GROUP,
    IMAGES,
    INDEX,
    NEWS_SHARE,
    DamagedIndex,
    Part,
    Place,
    Stored,
    in_order,
    news_of,
    pieces,
    reading,
    without,
    write_base,
    write_news,
)
from modic.archive.source import UNKNOWN_TIME, File
from modic.errors import Reason

KEYS_AT_ONCE = 2_000
NOT_ASKED, KEPT, CHANGED = range(3)  # what a crawl has found of a file that the index knows


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """The columns COMPARED of the rows of an index that hold: those of its base, then the news, each in `ORDER`."""

    table: pa.Table
    of_base: int  # how many are in the base
    numbers: np.ndarray  # of the rows (modic/archive/header_index.py). int64


NOTHING = Remembered(INDEX.empty_table().select(COMPARED), 0, np.zeros(0, np.int64))


def read_compared(index: Path | None) -> Remembered:
    """What the last crawl remembered; nothing if there is no index, or an older or broken one."""
    if index is None:
        return NOTHING
    try:
        return _remembered(index)
    except DamagedIndex as error:
        if error.path == index:
            return NOTHING
        news_of(index).unlink(missing_ok=True)  # what changed since the base was written is read again
        return read_compared(index)


def _remembered(index: Place) -> Remembered:
    with reading(index) as stored:
        if not stored.is_of_this_version:
            return NOTHING
        return Remembered(stored.read(COMPARED), stored.parts[0].rows - len(stored.gone), stored.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """What an index holds once a crawl has written it."""

    images: pa.Table  # IMAGES
    rejected: pa.Table  # FILE, member, reason; sorted
    is_image: np.ndarray  # whether each row that holds is one of `images`, in their order. bool
    index: Place


def arranged(table: pa.Table, of_base: int, index: Place) -> Arranged:
    """The rows of an index (as in `Remembered`) by what they are."""
    parts = [table.slice(0, of_base), table.slice(of_base)]
    counts = [(part["reason"].null_count, refused_rows(part)) for part in parts]
    images = pa.concat_tables([part.slice(0, n) for part, (n, _) in zip(parts, counts, strict=True)])
    rejected = pa.concat_tables([part.slice(n, refused) for part, (n, refused) in zip(parts, counts, strict=True)])
    if all(refused for _, refused in counts):
        rejected = rejected.sort_by([("path", "ascending"), ("member", "ascending")])
    is_image = np.concatenate([np.arange(len(part)) < n for part, (n, _) in zip(parts, counts, strict=True)])
    return Arranged(images.select(IMAGES), rejected.select([*FILE, "member", "reason"]), is_image, index)


def refused_rows(table: pa.Table) -> int:
    """How many rows are of refused files: neither of accepted ones nor of containers."""
    containers = pc.sum(pc.equal(table["reason"], CONTAINER), min_count=0).as_py()
    return len(table) - table["reason"].null_count - int(containers)


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

    def open(self) -> Part:
        """All rows, once they have ended."""
        return Part(pq.ParquetFile(self._file), None)


class Known:
    """The files of an index, to be compared with those of the archive."""

    def __init__(self, remembered: Remembered) -> None:
        self.remembered, table = remembered, remembered.table
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
        reason = None if at is None else self.remembered.table["reason"][self._row[at]].as_py()
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
        return self.remembered.table["reason"].filter(pa.array(self.holds))


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


def merged(index: Path | None, known: Known, new: New) -> Arranged:
    """Write the index, unless it holds as it is: anew, or only its news if they are few. Raises DamagedIndex.

    `known` and `new` lose their rows, which take much memory.
    """
    remembered, lost = known.remembered, np.flatnonzero(~known.holds)
    if index is not None and not new.compared and not len(lost):
        return arranged(remembered.table, remembered.of_base, index)
    held, numbers = without(remembered.table, lost), np.delete(remembered.numbers, lost)
    of_base = remembered.of_base - int(np.searchsorted(lost, remembered.of_base))
    parts, new.compared = [held, *new.compared], []
    known.remembered = NOTHING
    del remembered
    if not len(held):
        return _anew(parts, numbers, [new.open()], index)
    with reading(index) as stored:
        files = [*stored.parts, new.open()]
        if index is None or not _few(parts, of_base, stored):
            return _anew(parts, numbers, files, index)
        return _with_news(parts, numbers, of_base, files, stored, index)


def _few(parts: list[pa.Table], of_base: int, stored: Stored) -> bool:
    """Whether all that came and went since the base was written is little beside it."""
    base = stored.parts[0].rows
    return bool(stored.token) and base > GROUP and sum(map(len, parts)) - 2 * of_base + base <= NEWS_SHARE * base


def _anew(parts: list[pa.Table], numbers: np.ndarray, files: list[Part], index: Path | None) -> Arranged:
    """Write the base anew. `numbers`: of the rows of the first part in `files`, the last of which holds the others."""
    numbers = _numbers(numbers, parts, files)
    order = in_order(parts)
    parts.clear()
    place = write_base(pieces(files, numbers[order]), index)
    remembered = _remembered(place)
    return arranged(remembered.table, remembered.of_base, place)


def _with_news(
    parts: list[pa.Table], numbers: np.ndarray, of_base: int, files: list[Part], stored: Stored, index: Path
) -> Arranged:
    """Write the news, with the first rows of `parts` in the base. `numbers`, `files`: as for `_anew`."""
    base, news = parts[0].slice(0, of_base), [parts[0].slice(of_base), *parts[1:]]
    gone = np.setdiff1d(np.arange(files[0].rows), numbers[:of_base], assume_unique=True)
    order = in_order(news)
    rows = _numbers(numbers[of_base:], news, files)[order] - files[0].rows
    write_news(pieces(files[1:], rows), gone, index, stored.token)
    return arranged(pa.concat_tables([base, pa.concat_tables(news).take(order)]), of_base, index)


def _numbers(numbers: np.ndarray, parts: list[pa.Table], files: list[Part]) -> np.ndarray:
    """The numbers of all rows of `parts`, counted through `files`."""
    before = sum(file.rows for file in files[:-1])
    return np.concatenate([numbers, np.arange(sum(map(len, parts[1:]))) + before])
