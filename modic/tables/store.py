"""Write and read the four tables of a cohort: rows obey `modic.tables.schema`, and all tables are published at once."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.errors import ModicError
from modic.files import sync_directory, write_json, write_table, write_whole
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


def publish(
    cohort_root: Path,
    tables: Mapping[str, pa.Table],
    run_id: str,
    *,
    keep_days: float = 7.0,
    same: Collection[str] = (),
) -> Path:
    """Make `tables` (all four of `SCHEMAS`) the cohort's current ones in one step; returns their folder.

    Their data dictionary goes with them, for people (dictionary.md) and programs (datapackage.json). Earlier folders
    stay for readers for `keep_days` (modic/tables/published.py). Callers hold the lock (modic.cohort.Cohort.lock).

    `same`: names of tables that stay as they are; their files are checked and copied, and they need not be given.
    Raises ValueError if the tables break a rule of `enforce` or `check_together`, and ModicError if a file that is to
    be copied is damaged; nothing is changed then.
    """
    before = current_tables(cohort_root)
    copied = {name: before / f"{name}.parquet" for name in same if before and name in SCHEMAS}
    if tables.keys() | copied.keys() != SCHEMAS.keys():
        raise ValueError(f"publish needs exactly {', '.join(SCHEMAS)}")
    for name in [name for name, path in copied.items() if not _is_as_written_now(path, name)]:
        tables, copied = {**tables, name: read_table(cohort_root, name)}, {k: v for k, v in copied.items() if k != name}
    ready = {name: enforce(name, table) for name, table in tables.items() if name not in copied}
    if ready.keys() & {"studies", "levels"}:
        check_together({n: ready[n] if n in ready else read_table(cohort_root, n) for n in ("studies", "levels")})
    counts = {name: _checked_rows(path) for name, path in copied.items()}
    counts |= {name: len(table) for name, table in ready.items()}
    folder = new_folder(cohort_root, run_id)
    write_whole(folder / MARKDOWN, dictionary())
    write_json(folder / PACKAGE, datapackage(run_id, {name: counts[name] for name in SCHEMAS}))
    for name, table in ready.items():
        write_table(table, folder / f"{name}.parquet")
    for name, path in copied.items():
        write_whole(folder / f"{name}.parquet", path.read_bytes())
    sync_directory(folder.parent)
    point_current(cohort_root, folder)
    remove_superseded(cohort_root, folder, days=keep_days)
    return folder


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


def read_file(folder: Path, name: str) -> pa.Table:
    """The table `name` in a folder of published tables; columns and errors as `read_table`."""
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path, partitioning=None, page_checksum_verification=True, use_threads=False)
    except pa.ArrowException as error:
        raise _damaged(path) from error
    for field in SCHEMAS[name]:
        if field.name not in table.column_names and field.nullable:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMAS[name].names)


def _damaged(path: Path) -> ModicError:
    return ModicError(
        f"{path} is damaged; restore it from a backup, or delete `current`: the next run goes on from the newest"
        " whole tables in .tables, or says what else can be done"
    )
