"""The header index: what the crawl remembers of every file, refused ones included, in two Parquet files.

| file                        | what it holds                                                                          |
|-----------------------------|----------------------------------------------------------------------------------------|
| `header_index.parquet`      | the base: rows of INDEX in `ORDER`, with a token of its own                            |
| `header_index.news.parquet` | rows that came since, in `ORDER`, then the numbers (`gone`) of rows of the base that   |
|                             | hold no more; with the token of its base                                               |

So a night writes what changed. Once the news are more than `NEWS_SHARE` of the base, it is written anew with another
token. Each file appears whole or not at all, and the news alone are an addition to their base: those that a kill leaves
beside a new base, or beside one from a backup, have another token and do not count. A base without its news is an index
of before; whatever changed since is then read again.

A row has a number: its place in the base or, for news, the rows of the base and its place in the news.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.archive.header_values import COLUMNS, TEXT, WHOLE
from modic.errors import ModicError
from modic.files import write_tables

REPEATED = pa.dictionary(pa.int32(), TEXT)  # text that many files share is held once
STORED = {name: REPEATED if kind is TEXT and name != "SOPInstanceUID" else kind for name, kind in COLUMNS.items()}
FILE = {"path": TEXT, "size": pa.int64(), "mtime_ns": pa.int64()}
MEMBER = pa.field("member", TEXT)  # of a container that `path` names; null for a plain file
CONTAINER = "container"  # stands for a reason in the row of a container whose members the index holds
ORDER = [(name, "ascending") for name in ("rank", "path", "member", "frame")]  # of an index: refused files, containers
VERSION = {"modic_index": "6"}  # raised if what is read from headers changes: all headers are then read again
INDEX = pa.schema([*FILE.items(), MEMBER, ("reason", TEXT), ("frame", WHOLE), *STORED.items()], metadata=VERSION)
NEWS = INDEX.append(pa.field("gone", pa.int64()))
HEADERS = pa.schema([field for field in INDEX if field.name != "reason"])
IMAGES = [*FILE, "member", "frame", "StudyInstanceUID"]
COMPARED = [*IMAGES, "reason"]
"""Columns of the index that are read if nothing changed: the others take a gigabyte for a million files."""
GROUP = 20_000
"""Rows of the index that are held together: 15 MB. A base of no more is always written anew."""
NEWS_SHARE = 0.2
"""If a night brings 2 %, writing the news and now and then a base then costs a fifth of a base a night, the least."""
TOKEN = b"token"  # in the metadata of both files
Place: TypeAlias = Path | pa.Buffer
"""Where an index lies: in a file, or in memory if nothing is to be remembered."""


class DamagedIndex(ModicError):
    """A part of the index, in the file `path`, cannot be read."""

    def __init__(self, path: Place) -> None:
        super().__init__(f"{path} is damaged; delete it, and the next run reads all headers again")
        self.path = path


def news_of(index: Path) -> Path:
    """The file of news beside a base."""
    return index.with_name(f"{index.stem}.news{index.suffix}")


@contextmanager
def _told_as_damage(path: Place) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DamagedIndex(path) from error


def _source(index: Place) -> Path | pa.BufferReader:
    return index if isinstance(index, Path) else pa.BufferReader(index)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One of the files of an index, open."""

    file: pq.ParquetFile
    path: Place | None  # None: of a scratch file, whose trouble is not that of an index

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return int(self.file.metadata.num_rows)

    @property
    def groups(self) -> list[int]:
        """The number of rows of each row group."""
        return [self.file.metadata.row_group(group).num_rows for group in range(self.file.num_row_groups)]

    def read(self, columns: list[str], group: int | None = None) -> pa.Table:
        """Some columns of all rows, or of a row group. Raises DamagedIndex."""
        with _told_as_damage(self.path) if self.path is not None else nullcontext():
            if group is None:
                return self.file.read(columns=columns, use_threads=False).select(columns)  # a third of the CPU
            return self.file.read_row_group(group, columns=columns, use_threads=False).select(columns)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An index, open: its base, then its news if there are any."""

    parts: list[Part]
    gone: np.ndarray  # numbers of rows of the base that hold no more, sorted. int64
    token: str  # of the base; empty if it has none, as in earlier versions

    @property
    def is_of_this_version(self) -> bool:
        """Whether it holds what this version reads from headers."""
        return _is_of_this_version(self.parts[0].file, INDEX)

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of the rows that hold, in the order in which they are read. int64."""
        base = np.delete(np.arange(self.parts[0].rows), self.gone)
        news = np.arange(sum(part.rows for part in self.parts[1:]) - len(self.gone)) + self.parts[0].rows
        return np.concatenate([base, news]) if len(self.parts) > 1 else base

    def read(self, columns: list[str]) -> pa.Table:
        """Some columns of INDEX, of all rows that hold. Raises DamagedIndex."""
        base, *news = (part.read(columns) for part in self.parts)
        return pa.concat_tables([without(base, self.gone), *(rows[: len(rows) - len(self.gone)] for rows in news)])

    def take(self, columns: list[str], wanted: np.ndarray) -> pa.Table:
        """Some columns of the rows for which `wanted` (bool, one value a row that holds) is true, in their order.

        Holds no others in memory. Raises DamagedIndex.
        """
        numbers, start = self.numbers[wanted], 0
        tables = [pa.schema([INDEX.field(name) for name in columns]).empty_table()]
        for part in self.parts:
            for group, rows in enumerate(part.groups):
                first, last = np.searchsorted(numbers, [start, start + rows])
                if first < last:
                    table = part.read(columns, group)
                    here = pa.array(numbers[first:last] - start)
                    tables.append(table if len(here) == rows else table.take(here).combine_chunks())
                start += rows
        return pa.concat_tables(tables)

    def take_sorted(self, columns: list[str], wanted: np.ndarray) -> pa.Table:
        """As `take`, sorted by path, member and frame, which are among the columns; `wanted`: images alone."""
        table = self.take(columns, wanted)
        return table if len(self.parts) == 1 else table.unify_dictionaries().sort_by(ORDER[1:])

    def where(self, columns: list[str], condition: pc.Expression) -> pa.Table:
        """Some columns of the rows that a condition on them is true of. Raises DamagedIndex."""
        return self.read(columns).filter(condition)


@contextmanager
def reading(index: Place) -> Iterator[Stored]:
    """An index, open; of another version without its news. Raises DamagedIndex if it cannot be read."""
    with ExitStack() as stack:
        with _told_as_damage(index):
            base = stack.enter_context(pq.ParquetFile(_source(index)))
        token = _token(base) if _is_of_this_version(base, INDEX) else ""
        parts, gone = [Part(base, index)], np.zeros(0, np.int64)
        if isinstance(index, Path) and token and (news := _open_news(index, token, stack)):
            parts.append(news)
            gone = news.read(["gone"])["gone"].drop_null().to_numpy()
        yield Stored(parts, gone, token)


def _open_news(index: Path, token: str, stack: ExitStack) -> Part | None:
    """The news of the base with this token; None if there are none, or they cannot be read."""
    path = news_of(index)
    with suppress(pa.ArrowException, OSError):
        file = stack.enter_context(pq.ParquetFile(path))
        if _is_of_this_version(file, NEWS) and _token(file) == token:
            return Part(file, path)
    return None


def _is_of_this_version(file: pq.ParquetFile, schema: pa.Schema) -> bool:
    metadata = file.schema_arrow.metadata or {}
    return bool(file.schema_arrow.equals(schema)) and all(metadata.get(k) == v for k, v in INDEX.metadata.items())


def _token(file: pq.ParquetFile) -> str:
    return str((file.schema_arrow.metadata or {}).get(TOKEN, b"").decode())


def without(table: pa.Table, gone: np.ndarray) -> pa.Table:
    """A table without the rows of some numbers, sorted (int64). Only chunks that lose a row are copied."""
    if not len(gone):
        return table
    chunks, start = [], 0
    for batch in table.to_batches():
        here = gone[slice(*np.searchsorted(gone, [start, start + len(batch)]))] - start
        keep = np.ones(len(batch), bool)
        keep[here] = False
        chunks.append(batch.filter(pa.array(keep)) if len(here) else batch)
        start += len(batch)
    return pa.Table.from_batches(chunks, table.schema)


def is_of(uids: pa.ChunkedArray, wanted: pa.Array) -> pa.ChunkedArray:
    """Whether each UID, of a column with dictionaries, is one of those wanted; makes no text of them. bool."""
    found = [pc.is_in(chunk.dictionary, wanted).take(chunk.indices) for chunk in uids.chunks]
    return pc.fill_null(pa.chunked_array(found, pa.bool_()), False)  # a refused file has none


def in_order(parts: Sequence[pa.Table]) -> np.ndarray:
    """The numbers of the rows of all `parts` (COMPARED), counted through them, in `ORDER`."""
    ranks = pa.chunked_array([chunk for part in parts for chunk in _ranks(part["reason"]).chunks], pa.int8())
    keys = pa.concat_tables([part.select(["path", "member", "frame"]) for part in parts]).append_column("rank", ranks)
    return pc.sort_indices(keys, sort_keys=ORDER).to_numpy()


def _ranks(reasons: pa.ChunkedArray) -> pa.ChunkedArray:
    """0 for an accepted file, 1 for a refused one, 2 for a container."""
    containers = pc.fill_null(pc.equal(reasons, CONTAINER), False).cast(pa.int8())
    return pc.add(pc.is_valid(reasons).cast(pa.int8()), containers)


def write_base(rows: Iterator[pa.Table], index: Path | None) -> Place:
    """Write a base with a new token, after which earlier news do not count; in memory without `index`."""
    schema = INDEX.with_metadata({**INDEX.metadata, TOKEN: secrets.token_hex(8)})
    if index is not None:
        write_tables(rows, schema, index)
        news_of(index).unlink(missing_ok=True)
        return index
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(content, schema) as writer:
        for piece in rows:
            writer.write_table(piece)
    return content.getvalue()


def write_news(rows: Iterator[pa.Table], gone: np.ndarray, index: Path, token: str) -> None:
    """Write the news of a base: all rows that came since it was written, and the numbers of its rows that are gone."""
    numbers = [pa.array(gone) if name == "gone" else pa.nulls(len(gone), NEWS.field(name).type) for name in NEWS.names]

    def tables() -> Iterator[pa.Table]:
        for table in rows:
            yield table.append_column(NEWS.field("gone"), pa.nulls(len(table), pa.int64()))
        yield pa.table(numbers, schema=NEWS)

    write_tables(tables(), NEWS.with_metadata({**INDEX.metadata, TOKEN: token}), news_of(index))


def pieces(parts: Sequence[Part], order: np.ndarray) -> Iterator[pa.Table]:
    """The rows of `parts` with the numbers in `order`, counted through all of them, piece by piece (INDEX).

    Only the row groups that a piece needs are held. Raises DamagedIndex.
    """
    groups = [(part, group) for part in parts for group in range(len(part.groups))]
    starts = np.cumsum([0, *(rows for part in parts for rows in part.groups)])
    held: dict[int, pa.Table] = {}
    for start in range(0, len(order), GROUP):
        rows = order[start : start + GROUP].astype(np.int64)
        needed, place = np.unique(np.searchsorted(starts, rows, side="right") - 1, return_inverse=True)
        held = {n: held[n] if n in held else groups[n][0].read(INDEX.names, groups[n][1]) for n in needed.tolist()}
        before = np.cumsum([0, *map(len, held.values())])[:-1]
        at = rows - starts[needed][place] + before[place]
        yield pa.concat_tables(held.values()).unify_dictionaries().take(at)
