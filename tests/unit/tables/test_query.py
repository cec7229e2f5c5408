"""modic query: answers in four formats, and one clear line for what is wrong."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from made_cohort import make_cohort
from modic.cohort import create_cohort
from modic.errors import UsageError
from modic.tables.query import connect, print_query, rows_of, sql_dir

QUERY = "SELECT level, count(*) AS n FROM levels WHERE level = 'L5/S1' GROUP BY level;"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("it's a cohort"))


def ask(cohort: Path, sql: str, format: str) -> str:
    out = io.StringIO()
    print_query(cohort, sql, format=format, out=out)
    return out.getvalue()


def test_csv_json_and_table_give_the_same_answer(cohort: Path) -> None:
    assert ask(cohort, QUERY, "csv") == "level,n\nL5/S1,8\n"
    assert json.loads(ask(cohort, QUERY, "json")) == [{"level": "L5/S1", "n": 8}]
    table = ask(cohort, QUERY, "table")
    assert "L5/S1" in table and " 8 " in table


def test_parquet_goes_out_as_bytes(cohort: Path) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw)
    print_query(cohort, QUERY, format="parquet", out=out)
    assert pq.read_table(io.BytesIO(raw.getvalue())).to_pylist() == [{"level": "L5/S1", "n": 8}]


def test_a_long_answer_is_whole_as_csv_and_wide_tables_keep_their_columns(cohort: Path) -> None:
    assert len(ask(cohort, "FROM range(5000)", "csv").splitlines()) == 5001
    assert "mm_z1" in ask(cohort, "FROM levels LIMIT 1", "table")


@pytest.mark.parametrize(
    "sql, said",
    [
        ("SELEC 1", "syntax error"),
        ("FROM nowhere", "nowhere does not exist"),
        ("SELECT 'a'::INT", "Could not convert"),
        ("", "gives no rows"),
    ],
)
def test_a_wrong_query_is_one_line(cohort: Path, sql: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        ask(cohort, sql, "csv")
    assert "\n" not in str(raised.value)


def test_what_is_no_cohort_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        connect(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a cohort"):
        connect(tmp_path)
    (tmp_path / "archive").mkdir()
    new = create_cohort(tmp_path / "cohort", archive=tmp_path / "archive")
    with pytest.raises(UsageError, match="no run has finished"):
        connect(new.root)


def test_views_say_what_one_row_is(cohort: Path) -> None:
    with connect(cohort) as connection:
        (view,) = rows_of(connection, "SELECT comment FROM duckdb_views() WHERE view_name = 'patients'")
    assert view["comment"].startswith("One row is one patient: how many studies, and what the first graded one shows.")


def test_the_sql_files_are_found() -> None:
    assert list(sql_dir().glob("views/*.sql"))


def test_a_cohort_published_before_a_column_was_added_is_read_with_nulls(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    path = (tmp_path / "current").resolve() / "series.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["warnings", "role_evidence"]), path)
    with connect(tmp_path) as connection:
        assert rows_of(connection, "SELECT count(*) AS n, count(warnings) AS w FROM series") == [{"n": 22, "w": 0}]
        assert rows_of(connection, "FROM series_to_review") == []


@pytest.mark.parametrize(
    "sql",
    [
        "COPY levels TO '{here}/new.parquet'",
        "COPY (SELECT 1) TO '{cohort}/current/levels.parquet'",
        "FROM read_csv('/etc/passwd', header = false)",
        "FROM '{cohort}/current/levels.parquet'",
        "FROM glob('/etc/*')",
        "ATTACH '{here}/new.db'",
        "EXPORT DATABASE '{here}/new'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
    ],
)
def test_a_query_reads_the_tables_and_nothing_else(cohort: Path, tmp_path: Path, sql: str) -> None:
    before = (cohort / "current" / "levels.parquet").read_bytes()
    with pytest.raises(UsageError, match=r"allow-files|configuration"):
        ask(cohort, sql.format(here=tmp_path, cohort=str(cohort).replace("'", "''")), "table")
    assert list(tmp_path.iterdir()) == [] and (cohort / "current" / "levels.parquet").read_bytes() == before


def test_files_are_open_to_a_query_if_the_user_says_so(cohort: Path, tmp_path: Path) -> None:
    print_query(cohort, f"COPY levels TO '{tmp_path}/new.parquet'", files=True, out=io.StringIO())
    assert pq.read_table(tmp_path / "new.parquet").num_rows == 48


def test_both_ways_of_reading_give_the_same_tables_and_views(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    path = (tmp_path / "current").resolve() / "series.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["warnings", "role_evidence"]), path)
    with connect(tmp_path) as native, connect(tmp_path, files=False) as sealed:
        names = [row["name"] for row in rows_of(native, "SHOW TABLES") if "columns_of" not in row["name"]]
        assert names == [row["name"] for row in rows_of(sealed, "SHOW TABLES")]
        for name in names:
            sql = f'DESCRIBE "{name}"'
            assert rows_of(native, sql) == rows_of(sealed, sql)
            sql = f'FROM "{name}" ORDER BY ALL'
            assert str(rows_of(native, sql)) == str(rows_of(sealed, sql))


def test_an_escape_in_a_table_steers_no_terminal(cohort: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for format in ("table", "csv", "json"):
        out = Terminal()
        print_query(cohort, "SELECT chr(27) || '[2J' AS a", format=format, out=out)
        assert "\x1b" not in out.getvalue() and "[2J" in out.getvalue()


def test_several_statements_are_all_answered(cohort: Path) -> None:
    answer = ask(cohort, "SELECT 11 AS a; SELECT 22 AS b;", "table")
    assert "11" in answer and "22" in answer
    assert ask(cohort, "CREATE TEMP TABLE x AS SELECT 3 AS c; FROM x", "csv").split() == ["c", "3"]
    with pytest.raises(UsageError, match="several answers do not go into one csv"):
        ask(cohort, "SELECT 1; SELECT 2", "csv")
