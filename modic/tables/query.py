"""A cohort in SQL: DuckDB with the four tables, the views of sql/views, and the checks and warnings of a cohort."""

import contextlib
import glob
import shutil
import tempfile
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from modic.cohort import is_cohort, refuse_links
from modic.errors import UsageError
from modic.tables.published import current_tables, tables_of
from modic.tables.schema import CLOSED, SCHEMAS

COPY_OPTIONS = {
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json, ARRAY",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
TABLE_ROWS, TABLE_WIDTH = 1000, 10_000


def sql_dir() -> Path:
    """The folder of the SQL files: packed inside modic, or beside it in a clone made without links."""
    here = Path(__file__).resolve().parents[1]
    inside = here / "sql"
    return inside if inside.is_dir() else here.parent / "sql"


def statements(folder: str) -> dict[str, str]:
    """Name → SQL of every file of a folder of sql/ (`views`, `checks`, `warnings`, `cohort`, …), sorted by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((sql_dir() / folder).glob("*.sql"))}


def first_comment(sql: str) -> str:
    """The comment at the beginning of a SQL file, as one line: what one row of the answer is."""
    lines = sql.splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:end])


def published(cohort: Path, run: str | None = None) -> Path:
    """The folder of the cohort's current tables, or of those that `run` published. It never changes.

    Raises UsageError if `cohort` is no cohort, if no run has finished in it, if the tables of `run` are not kept, or as
    `modic.tables.published.current_tables` does.
    """
    refuse_links(cohort)
    if run is not None:
        return tables_of(cohort, run)
    if folder := current_tables(cohort):
        return folder
    if is_cohort(cohort):
        raise UsageError(f"no run has finished in {cohort} yet")
    raise UsageError(f"{cohort} is not a cohort" if cohort.exists() else f"{cohort} does not exist")


def connect(cohort: Path, folder: Path | None = None, *, files: bool = True) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with studies, series, levels, runs and every view of sql/views, each with a comment.

    Without `files` no query can read or write a file, or load an extension, and the four tables cannot be changed.

    A view may use the views whose names sort before its own. The SQL files name the tables by their files
    (`FROM 'levels.parquet'`), so that they also run without modic, in the folder of the tables; here these names are
    views, so the current folder does not matter. `folder`: tables of one run instead of the current ones. Raises
    UsageError as `published`.
    """
    folder = folder or published(cohort)
    connection = duckdb.connect(":memory:")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET autoinstall_known_extensions = false")  # downloads nothing unless a query says INSTALL
    for name in SCHEMAS:
        if files:
            connection.execute(f"CREATE VIEW {name} AS {_rows_of_file(connection, folder, name)}")
        else:
            connection.from_arrow(dataset(folder, name)).create_view(name)
        connection.execute(f'CREATE VIEW "{name}.parquet" AS FROM {name}')
    _add_closed_lists(connection)
    for name, sql in statements("views").items():
        connection.execute(sql)
        comment = first_comment(sql).replace("'", "''")
        connection.execute(f"COMMENT ON VIEW {name} IS '{comment}'")
    return connection


def _seal(connection: duckdb.DuckDBPyConnection, scratch: Path) -> None:
    """Leave queries no file but those in `scratch`. It cannot be undone."""
    connection.execute(f"SET allowed_directories = [{_quoted(scratch)}]")
    connection.execute(f"SET temp_directory = {_quoted(scratch)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def dataset(folder: Path, name: str) -> ds.Dataset:
    """A table read by Arrow; columns that an earlier version did not write are null."""
    path = folder / f"{name}.parquet"
    written = pq.read_schema(path)
    missing = [field for field in SCHEMAS[name] if field.name not in written.names]
    return ds.dataset(path, format="parquet", partitioning=None, schema=pa.schema([*written, *missing]))


def _rows_of_file(connection: duckdb.DuckDBPyConnection, folder: Path, name: str) -> str:
    """SQL of a table; columns that an earlier version did not write are null."""
    path = folder / f"{name}.parquet"
    place = glob.escape(str(path)).replace("'", "''")
    rows = f"SELECT * FROM read_parquet('{place}', hive_partitioning = false)"
    if set(SCHEMAS[name].names) <= set(pq.read_schema(path).names):
        return rows
    connection.register(f"columns_of_{name}", SCHEMAS[name].empty_table())
    return f"{rows} UNION ALL BY NAME SELECT * FROM columns_of_{name}"


def _add_closed_lists(connection: duckdb.DuckDBPyConnection) -> None:
    """`closed_lists`: one row is one value that a column with a closed list may hold."""
    connection.execute("CREATE TABLE closed_lists (table_name VARCHAR, column_name VARCHAR, value VARCHAR)")
    rows = [(*column, value) for column, values in CLOSED.items() for value in sorted(values)]
    connection.executemany("INSERT INTO closed_lists VALUES (?, ?, ?)", rows)


def rows_of(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """The answer to one query, one dict a row."""
    answer = connection.execute(sql)
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def run_checks(cohort: Path) -> dict[str, list[dict[str, Any]]]:
    """Name of each check in sql/checks → the rows that break it. Raises UsageError as `connect`."""
    return _answers(cohort, "checks")


def run_warnings(cohort: Path) -> dict[str, list[dict[str, Any]]]:
    """Name of each query in sql/warnings → its rows, which break no check but matter to readers of the tables."""
    return _answers(cohort, "warnings")


def _answers(cohort: Path, folder: str) -> dict[str, list[dict[str, Any]]]:
    with connect(cohort) as connection:
        return {name: rows_of(connection, sql) for name, sql in statements(folder).items()}


def print_query(cohort: Path, sql: str, *, format: str = "table", files: bool = False, out: TextIO) -> None:
    """Write the answer to `sql` to `out` as table, csv, json or parquet (the last in bytes, to `out.buffer`).

    Statements that are separated by semicolons are run in turn; as tables, each answer is printed.

    `files`: whether the query may read and write files, and load extensions. Raises UsageError as `connect`, and with
    DuckDB's message if the query is wrong.
    """
    with tempfile.TemporaryDirectory() as scratch, connect(cohort, files=files) as connection:
        if not files:
            _seal(connection, Path(scratch))
        try:
            parts = connection.extract_statements(sql)
            for statement in parts[:-1]:
                if statement.expected_result_type != [duckdb.ExpectedResultType.QUERY_RESULT]:
                    connection.execute(statement)
                elif format == "table":
                    _print_table(connection.sql(statement), out)
                else:
                    raise UsageError(f"several answers do not go into one {format}; ask one question at a time")
            answer = connection.sql(parts[-1] if parts else sql)
            if answer is None:
                raise UsageError("the query gives no rows; begin it with SELECT, FROM or WITH")
            if format == "table":
                _print_table(answer, out)
            else:
                _copy(connection, answer, format, Path(scratch) / "answer", out)
        except duckdb.PermissionException as error:
            cure = "" if files else "; --allow-files lets a query read and write files and load extensions"
            raise UsageError(_one_line(error) + cure) from error
        except (duckdb.Error, RuntimeError) as error:
            raise UsageError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\nLINE ")[0].split())


NOT_A_CONTROL = "regexp_replace({0}, '[\\x00-\\x1f\\x7f-\\x{{9f}}]', '�', 'g')"
"""SQL of a text without control characters, so that it cannot steer a terminal."""
NOT_A_FORMULA = "if(regexp_matches({0}, '^[=+\\-@\\t\\r]') AND try_cast({0} AS DOUBLE) IS NULL, '''' || {0}, {0})"
"""SQL of a text that a spreadsheet does not read as a formula; numbers stay as they are."""


def _each_text(answer: duckdb.DuckDBPyRelation, expression: str) -> duckdb.DuckDBPyRelation:
    """`answer` with every text column replaced by `expression` of it."""
    names = ['"' + name.replace('"', '""') + '"' for name in answer.columns]
    is_text = [str(kind) == "VARCHAR" for kind in answer.types]
    columns = (f"{expression.format(n)} AS {n}" if text else n for n, text in zip(names, is_text, strict=True))
    return answer.project(", ".join(columns)) if any(is_text) and len(set(names)) == len(names) else answer


def _print_table(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    answer = _each_text(answer, NOT_A_CONTROL)
    with contextlib.redirect_stdout(out):
        answer.show(max_width=TABLE_WIDTH, max_rows=TABLE_ROWS)


def _copy(
    connection: duckdb.DuckDBPyConnection, answer: duckdb.DuckDBPyRelation, format: str, path: Path, out: TextIO
) -> None:
    if format == "csv":
        answer = _each_text(answer, NOT_A_FORMULA)
    if format != "parquet" and out.isatty():
        answer = _each_text(answer, NOT_A_CONTROL)
    answer.create("answer")
    connection.execute(f"COPY (FROM answer) TO {_quoted(path)} ({COPY_OPTIONS[format]})")
    if format == "parquet":
        with path.open("rb") as binary:
            shutil.copyfileobj(binary, out.buffer)
    else:
        with path.open(encoding="utf-8", newline="") as text:
            shutil.copyfileobj(text, out)
