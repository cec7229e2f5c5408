"""Write and read the four tables of a cohort: rows obey `modic.tables.schema`, and all tables are published at once."""

from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import remove
from modic.errors import ModicError
from modic.files import in_row_groups, sync_directory, write_json, write_tables, write_whole
from modic.records import LEVELS
from modic.tables.dictionary import MARKDOWN, PACKAGE, datapackage, dictionary
from modic.tables.published import current_tables, new_folder, point_current, remove_superseded
from modic.tables.schema import CLOSED, KEYS, SCHEMAS
from modic.text import counted

CHECKED_ROWS = 20_000  # of a table's file, at a time


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """`table` with other values in the column `name`, of the type that it has."""
    place = table.column_names.index(name)
    column = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
    return table.set_column(place, table.schema.field(place), column.cast(table.schema.field(place).type))


def enforce(name: str, table: pa.Table) -> pa.Table:
    """`table` with exactly the columns and types of `SCHEMAS[name]`, sorted by its keys.

    Raises ValueError if a column is missing or not described, a value does not fit its type, a required value is null
    or not of its closed list, or two rows share a key.
    """
    schema = SCHEMAS[name]
    if wrong := set(table.column_names) ^ set(schema.names):
        raise ValueError(f"{name}: missing or undescribed columns: {', '.join(sorted(wrong))}")
    for field in schema:
        if not field.nullable and (n := table[field.name].null_count):
            raise ValueError(f"{name}.{field.name} is null in {counted(n, 'row')}")
    table = table.select(schema.names).cast(schema)
    for field in schema:
        column = table[field.name]
        allowed = CLOSED.get((name, field.name))
        if allowed and (unknown := set(pc.unique(column).to_pylist()) - allowed - {None}):
            raise ValueError(f"{name}.{field.name} holds {sorted(unknown)}, which is not of its closed list")
    _check_keys(name, table)
    return _sorted(name, table)


def _check_keys(name: str, table: pa.Table) -> None:
    keys = list(KEYS[name])
    if len(table.group_by(keys).aggregate([])) != len(table):
        raise ValueError(f"{name}: two rows share one {' and '.join(keys)}")


def _sorted(name: str, table: pa.Table) -> pa.Table:
    order = [pc.index_in(table[key], pa.array(LEVELS)) if key == "level" else table[key] for key in KEYS[name]]
    keys = pa.table(order, names=list(KEYS[name]))
    indices = pc.sort_indices(keys, sort_keys=[(key, "ascending") for key in KEYS[name]])
    in_order = np.array_equal(indices.to_numpy(), np.arange(len(table)))  # then it is not copied
    return (table if in_order else table.take(indices)).combine_chunks()


def check_together(tables: Mapping[str, pa.Table]) -> None:
    """Raise ValueError unless every graded study has rows for its six levels, and no other study has any."""
    studies = tables["studies"]
    graded = set(studies.filter(pc.equal(studies["status"], "graded"))["study_key"].to_pylist())
    counted = tables["levels"].group_by("study_key").aggregate([("level", "count")])
    counts = dict(zip(counted["study_key"].to_pylist(), counted["level_count"].to_pylist(), strict=True))
    wrong = sorted(key for key in graded | counts.keys() if counts.get(key, 0) != (len(LEVELS) if key in graded else 0))
    if wrong:
        raise ValueError(f"levels: not six rows for each graded study and none for others: {', '.join(wrong[:5])}")


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """Rows of a table that take the place of all rows of some studies; it keeps all others."""

    rows: pa.Table
    studies: pa.Array  # their keys


def publish(
    cohort_root: Path,
    tables: Mapping[str, pa.Table],
    run_id: str,
    *,
    keep_days: float = 7.0,
    same: Collection[str] = (),
    changed: Mapping[str, Changed] | None = None,
) -> Path:
    """Make `tables` (all four of `SCHEMAS`) the cohort's current ones in one step; returns their folder.

    Their data dictionary goes with them, for people (dictionary.md) and programs (datapackage.json). Earlier folders
    stay for readers for `keep_days` (modic/tables/published.py). Callers hold the lock (modic.cohort.Cohort.lock).

    `same`: names of tables that stay as they are; their files are checked and copied, and they need not be given.
    `changed`: name → what changes in a table that is not given; it is copied a part at a time, not held whole.
    Raises ValueError if the tables break a rule of `enforce` or `check_together`, and ModicError if a file that is to
    be copied is damaged; nothing is changed then.
    """
    before = current_tables(cohort_root)
    paths = {name: before / f"{name}.parquet" for name in SCHEMAS} if before else {}
    copied = {name: paths[name] for name in same if name in paths}
    spliced = {name: parts for name, parts in (changed or {}).items() if name not in copied}
    if tables.keys() | copied.keys() | spliced.keys() != SCHEMAS.keys():
        raise ValueError(f"publish needs exactly {', '.join(SCHEMAS)}")
    for name in [*copied, *spliced]:
        if name not in paths or not _is_as_written_now(paths[name], name):
            whole = read_table(cohort_root, name)
            tables = {**tables, name: _with(whole, spliced[name]) if name in spliced else whole}
            copied.pop(name, None), spliced.pop(name, None)
    ready = {name: enforce(name, table) for name, table in tables.items() if name not in copied}
    spliced = {name: Changed(enforce(name, parts.rows), parts.studies) for name, parts in spliced.items()}
    _check_levels(cohort_root, ready, spliced)
    counts = {name: _checked_rows(path) for name, path in copied.items()}
    with _folder(cohort_root, run_id) as folder:
        for name, table in ready.items():
            counts[name] = _write(name, [table], folder)
        for name, parts in spliced.items():
            counts[name] = _write(name, in_row_groups(_spliced(name, paths[name], parts)), folder)
        for name, path in copied.items():
            write_whole(folder / f"{name}.parquet", path.read_bytes())
        _check_number_of_levels(folder, counts)
        write_whole(folder / MARKDOWN, dictionary())
        write_json(folder / PACKAGE, datapackage(run_id, {name: counts[name] for name in SCHEMAS}))
        sync_directory(folder.parent)
    point_current(cohort_root, folder)
    remove_superseded(cohort_root, folder, days=keep_days)
    return folder


@contextmanager
def _folder(cohort_root: Path, run_id: str) -> Iterator[Path]:
    """A new folder for the tables of a run, which goes if they cannot be written."""
    folder = new_folder(cohort_root, run_id)
    try:
        yield folder
    except Exception:
        remove(folder)
        raise


def _write(name: str, tables: Iterable[pa.Table], folder: Path) -> int:
    """Write a table's file; returns the number of its rows."""
    rows = 0

    def counted_tables() -> Iterator[pa.Table]:
        nonlocal rows
        for table in tables:
            rows += len(table)
            yield table

    write_tables(counted_tables(), SCHEMAS[name], folder / f"{name}.parquet")
    return rows


def _with(table: pa.Table, changed: Changed) -> pa.Table:
    """A whole table with what changes in it."""
    return pa.concat_tables([_without(table, changed.studies), changed.rows.cast(table.schema)])


def _without(table: pa.Table, studies: pa.Array) -> pa.Table:
    gone = pc.is_in(table["study_key"], studies)
    return table.filter(pc.invert(gone)) if pc.any(gone).as_py() else table


def _spliced(name: str, path: Path, changed: Changed) -> Iterator[pa.Table]:
    """The rows of a table's file with what changes in them, in the order of their keys, some at a time.

    The file is one of `_is_as_written_now`, whose rows obeyed `enforce` when they were written. Raises ValueError if
    two rows share a key now, and ModicError if a part of the file is damaged.
    """
    first, new = KEYS[name][0], changed.rows
    keys = new[first].to_pylist()  # a sorted few
    for group in _groups(path):
        upto = bisect(keys, group[first][-1].as_py()) if len(group) else 0
        part = _sorted(name, pa.concat_tables([_without(group, changed.studies), new[:upto]]))
        _check_keys(name, part)
        new, keys = new[upto:], keys[upto:]
        yield part
    yield new


def _groups(path: Path) -> Iterator[pa.Table]:
    """The row groups of a table's file, each page of which is compared with its checksum. Raises ModicError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path) from error


def _check_levels(cohort_root: Path, ready: Mapping[str, pa.Table], spliced: Mapping[str, Changed]) -> None:
    """`check_together`, of the studies that change alone if the levels of all others stay."""
    if "levels" in spliced:
        studies = ready["studies"] if "studies" in ready else read_table(cohort_root, "studies")
        parts = spliced["levels"]
        changed = studies.filter(pc.is_in(studies["study_key"], parts.studies))
        check_together({"studies": changed, "levels": parts.rows})
    elif ready.keys() & {"studies", "levels"}:
        check_together({n: ready[n] if n in ready else read_table(cohort_root, n) for n in ("studies", "levels")})


def _check_number_of_levels(folder: Path, counts: Mapping[str, int]) -> None:
    """Raise ValueError unless there are as many rows of levels as graded studies need."""
    statuses = pq.read_table(folder / "studies.parquet", columns=["status"], partitioning=None, use_threads=False)
    graded = pc.sum(pc.equal(statuses["status"], "graded"), min_count=0).as_py()
    if counts["levels"] != len(LEVELS) * graded:
        raise ValueError(f"levels: {counts['levels']} rows of {counted(graded, 'graded study')}")


def _is_as_written_now(path: Path, name: str) -> bool:
    """Whether a table's file is as this version writes it: an earlier one knew fewer columns, or other descriptions."""
    try:
        there, here = pq.read_schema(path), SCHEMAS[name]
    except pa.ArrowException as error:
        raise _damaged(path) from error
    return bool(there.equals(here)) and all(a.metadata == b.metadata for a, b in zip(there, here, strict=True))


def _checked_rows(path: Path) -> int:
    """The number of rows of a table's file, each page of which is compared with its checksum."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return sum(len(batch) for batch in file.iter_batches(CHECKED_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path) from error


def read_table(cohort_root: Path, name: str) -> pa.Table:
    """A published table; without rows if no run has finished yet.

    Columns that an earlier version did not know are null. Raises ModicError if the file is damaged or missing, because
    rows of studies that left the archive are in no other file.
    """
    folder = current_tables(cohort_root)
    if folder is None:
        return SCHEMAS[name].empty_table()
    return read_file(folder, name)


def read_rows(cohort_root: Path, name: str, studies: pa.Array) -> pa.Table:
    """The rows of a published table about some studies, by key; columns and errors as `read_table`."""
    folder = current_tables(cohort_root)
    if folder is None or not len(studies):
        return SCHEMAS[name].empty_table()
    path = folder / f"{name}.parquet"
    rows = [group.filter(pc.is_in(group["study_key"], studies)) for group in _groups(path)]
    return _with_all_columns(pa.concat_tables([pq.read_schema(path).empty_table(), *rows]), name)


def read_file(folder: Path, name: str) -> pa.Table:
    """The table `name` in a folder of published tables; columns and errors as `read_table`."""
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path, partitioning=None, page_checksum_verification=True, use_threads=False)
    except pa.ArrowException as error:
        raise _damaged(path) from error
    return _with_all_columns(table, name)


def _with_all_columns(table: pa.Table, name: str) -> pa.Table:
    """A table of any version with the columns of this one."""
    for field in SCHEMAS[name]:
        if field.name not in table.column_names and field.nullable:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMAS[name].names)


def _damaged(path: Path) -> ModicError:
    return ModicError(
        f"{path} is damaged; restore it from a backup, or delete `current`: the next run goes on from the newest"
        " whole tables in .tables, or says what else can be done"
    )
