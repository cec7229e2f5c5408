"""The four tables as CSV, and two flat ones (modic/export/flat.py).

A spreadsheet that opens it computes nothing of what a scanner wrote into a header. Text that begins like a formula
(= + - @, tab or return, also in full width) gets an apostrophe in front, as OWASP advises. Null is an empty field and
empty text is `""`; lists are JSON (`[0,1]`); times are UTC.
"""

from pathlib import Path

import duckdb

from modic.export.flat import flat_queries
from modic.tables.query import connect
from modic.tables.schema import SCHEMAS
from modic.text import plural

FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"


def write_csv(cohort: Path, out: Path) -> list[str]:
    """Write `<table>.csv` of every table and of every flat one; returns lines that say what was written."""
    queries = {**{table: f"FROM {table}" for table in SCHEMAS}, **flat_queries()}
    with connect(cohort) as connection:
        rows = {name: copy_csv(connection, query, out / f"{name}.csv") for name, query in queries.items()}
    return [f"{out / name}.csv: {n:,} {plural(n, 'row')}" for name, n in rows.items()]


def copy_csv(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    """Write the answer to `query` as CSV, every column as the module says; returns the number of rows."""
    answer = connection.sql(query)
    columns = zip(answer.columns, map(str, answer.types), strict=True)
    return _copy(connection, answer.project(", ".join(_as_csv(name, kind) for name, kind in columns)), path)


def _as_csv(name: str, kind: str) -> str:
    """SQL of a column of the DuckDB type `kind`, as it is written."""
    if kind == "VARCHAR":
        return f"CASE WHEN regexp_matches({name}, '{FORMULA}') THEN '''' || {name} ELSE {name} END AS {name}"
    if kind.endswith("[]"):
        return f"to_json({name})::VARCHAR AS {name}"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') AS {name}"
    return name


def _copy(connection: duckdb.DuckDBPyConnection, rows: duckdb.DuckDBPyRelation, path: Path) -> int:
    """DuckDB finds `rows` by its name in the query."""
    place = str(path).replace("'", "''")
    copied = connection.execute(f"COPY (FROM rows) TO '{place}' (FORMAT csv, HEADER, NULLSTR '')").fetchone()
    return int(copied[0]) if copied else 0
