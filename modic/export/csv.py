"""The four tables as CSV that a spreadsheet opens without running anything that a scanner's header says.

Text that begins like a formula (= + - @, tab, return, also in full width) gets an apostrophe before it, as OWASP
advises. Null is an empty field, empty text is `""`; lists are JSON (`[0,1]`); times are UTC.
"""

from pathlib import Path

import pyarrow as pa

from modic.tables.dictionary import MARKDOWN, dictionary
from modic.tables.query import connect
from modic.tables.schema import SCHEMAS

FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"


def write_csv(cohort: Path, out: Path) -> list[str]:
    """`<table>.csv` of every table, and the data dictionary."""
    said = []
    with connect(cohort) as connection:
        for name, schema in SCHEMAS.items():
            path = out / f"{name}.csv"
            columns = ", ".join(_safe(field) for field in schema)
            copy_csv(connection, f"SELECT {columns} FROM {name}", path)
            said.append(f"{path}: {connection.sql(f'SELECT count(*) FROM {name}').fetchall()[0][0]:,} rows")
    (out / MARKDOWN).write_text(dictionary(), encoding="utf-8")
    return said


def _safe(field: pa.Field) -> str:
    if pa.types.is_string(field.type):
        return safe_text(field.name)
    if pa.types.is_list(field.type):
        return f"to_json({field.name})::VARCHAR AS {field.name}"
    if pa.types.is_timestamp(field.type):
        return f"strftime({field.name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') AS {field.name}"
    return field.name


def safe_text(column: str) -> str:
    """SQL of a text column whose values no spreadsheet takes for formulas."""
    return f"CASE WHEN regexp_matches({column}, '{FORMULA}') THEN '''' || {column} ELSE {column} END AS {column}"


def copy_csv(connection: object, query: str, path: Path) -> None:
    """Write the answer to `query` as CSV."""
    place = str(path).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{place}' (FORMAT csv, HEADER, NULLSTR '')")  # type: ignore[attr-defined]
