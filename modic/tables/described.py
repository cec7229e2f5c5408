"""Parquet files of trainings and evaluations: every column described, as in the cohort's tables."""

from pathlib import Path
from typing import Any

Columns = dict[str, tuple[str, str]]
"""Name → (Arrow type: string, int64, float64, bool, list<int8>; what it means and its unit)."""


def write_rows(path: Path, rows: list[dict[str, Any]], columns: Columns) -> Path:
    """Write a described table, which appears whole or not at all; values that a row lacks are null. Returns `path`.

    Raises ValueError for a value under a name that `columns` does not describe.
    """
    import pyarrow as pa

    from modic.files import make_folder, write_table

    if unknown := {key for row in rows for key in row} - columns.keys():
        raise ValueError(f"{path.name}: undescribed columns: {', '.join(sorted(unknown))}")
    kinds = {name: pa.list_(pa.int8()) if kind == "list<int8>" else pa.type_for_alias(kind)
             for name, (kind, _) in columns.items()}  # fmt: skip
    fields = [pa.field(name, kinds[name], metadata={"description": meaning}) for name, (_, meaning) in columns.items()]
    make_folder(path.parent)
    write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)
    return path
