"""The published tables: described, typed, checked, sorted, and replaced in one step whatever happens."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from made_cohort import RUN, as_tables, key, make_cohort, make_rows
from modic import files
from modic.files import write_table
from modic.records import LEVELS
from modic.tables.published import is_whole
from modic.tables.schema import KEYS, ROWS, SCHEMAS
from modic.tables.store import enforce, publish, read_table


def test_every_column_and_table_is_described() -> None:
    for name, schema in SCHEMAS.items():
        assert schema.metadata[b"row"].decode() == ROWS[name]
        assert schema.metadata[b"schema_version"]
        assert [f.name for f in schema if len((f.metadata or {}).get(b"description", b"")) < 10] == []


def test_descriptions_and_types_are_in_the_files(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    for name, schema in SCHEMAS.items():
        assert read_table(tmp_path, name).schema.equals(schema, check_metadata=False)
        assert pa.parquet.read_schema(tmp_path / "current" / f"{name}.parquet").field(0).metadata[b"description"]


def test_pandas_and_duckdb_read_the_tables_as_they_stand(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    frame = pd.read_parquet(tmp_path / "current" / "levels.parquet")
    assert list(frame["level"][:6]) == list(LEVELS)
    assert len(frame) == 48 == duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/current/levels.parquet'").fetchall()[0][0]


def test_columns_without_a_value_keep_their_type(tmp_path: Path) -> None:
    rows = make_rows(graded=0)
    publish(tmp_path, as_tables(rows), RUN)
    assert read_table(tmp_path, "studies").schema.field("field_strength_t").type == pa.float32()
    assert read_table(tmp_path, "levels").schema.field("prediction_set").type.value_type == pa.int8()


def test_columns_that_an_earlier_version_did_not_write_are_null(tmp_path: Path) -> None:
    path = make_cohort(tmp_path) / "current" / "series.parquet"
    pa.parquet.write_table(pa.parquet.read_table(path, partitioning=None).drop_columns(["warnings", "detail"]), path)
    found = read_table(tmp_path, "series")
    assert found.schema.equals(SCHEMAS["series"], check_metadata=False)
    assert found["warnings"].null_count == len(found) > 0


def test_rows_are_sorted_by_key_whatever_order_they_come_in() -> None:
    rows = make_rows()
    shuffled = {name: random.Random(1).sample(table, len(table)) for name, table in rows.items()}
    for name, table in as_tables(shuffled).items():
        assert enforce(name, table).equals(enforce(name, as_tables(rows)[name]))


def plant(table: str, row: int, **wrong: Any) -> dict[str, pa.Table]:
    rows = make_rows()
    rows[table][row] |= wrong
    return as_tables(rows)


WRONG = [
    ({"table": "studies", "row": 0, "reason": "bad luck"}, "closed list"),
    ({"table": "levels", "row": 0, "level": "L6/S1"}, "closed list"),
    ({"table": "studies", "row": 0, "study_key": key("s", 1)}, "share one study_key"),
    ({"table": "levels", "row": 1, "level": "T12/L1"}, "share one study_key and level"),
    ({"table": "studies", "row": 0, "status": "excluded"}, "six rows"),
    ({"table": "studies", "row": -1, "status": "graded"}, "six rows"),
    ({"table": "studies", "row": 0, "patient_key": None}, "patient_key is null"),
]


@pytest.mark.parametrize("wrong, said", WRONG)
def test_what_breaks_a_rule_is_not_published(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    make_cohort(tmp_path, graded=3)
    with pytest.raises(ValueError, match=said):
        publish(tmp_path, plant(**wrong), RUN)
    assert len(read_table(tmp_path, "levels")) == 18


def test_an_undescribed_or_missing_column_is_refused() -> None:
    table = as_tables(make_rows())["runs"]
    with pytest.raises(ValueError, match="undescribed columns: mood"):
        enforce("runs", table.append_column("mood", pa.array(["fine"])))
    with pytest.raises(ValueError, match="device"):
        enforce("runs", table.drop_columns("device"))


def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    table = as_tables(make_rows())["studies"]
    position = table.column_names.index("age_years")
    with pytest.raises(ValueError, match="40000"):
        enforce("studies", table.set_column(position, "age_years", pa.array([40_000] * len(table))))


def test_a_cohort_copied_without_links_can_be_published_again(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path, 1) / "current"
    real = folder.resolve()
    folder.unlink()
    real.rename(folder)
    make_cohort(tmp_path, 2)
    assert len(read_table(tmp_path, "levels")) == 12


def test_no_run_yet_reads_as_no_rows(tmp_path: Path) -> None:
    assert {name: len(read_table(tmp_path, name)) for name in KEYS} == dict.fromkeys(KEYS, 0)


def test_write_table_leaves_nothing_else(tmp_path: Path) -> None:
    write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


WRITER = """
import sys
from pathlib import Path
from made_cohort import RUN, as_tables, make_rows
from modic.tables.store import publish
ready = [as_tables(make_rows(graded)) for graded in (20, 40)]
print("ready", flush=True)
while True:
    for tables in ready:
        publish(Path(sys.argv[1]), tables, RUN)
"""


def test_a_reader_sees_whole_tables_of_one_run_while_writers_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cohort(tmp_path, 20)
    root = Path(__file__).parents[3]
    places = os.pathsep.join(map(str, (root / "tests" / "support", root)))
    env = os.environ | {"PYTHONPATH": places, "PYTHONWARNINGS": "ignore"}
    seen = set()
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=env) as writer:
            assert writer.stdout and writer.stdout.readline() == b"ready\n"
            until = time.monotonic() + random.uniform(0.2, 0.4)
            while time.monotonic() < until or (len(seen) < 2 and time.monotonic() < until + 60):  # a busy machine
                seen.add(rows_seen(tmp_path))
            writer.send_signal(signal.SIGKILL)
        assert rows_seen(tmp_path) in {(23, 120), (43, 240)}
    assert seen == {(23, 120), (43, 240)}
    monkeypatch.setattr(files, "LEFT_OVER_S", 0)
    make_cohort(tmp_path, 20)
    assert all(is_whole(folder) for folder in (tmp_path / ".tables").iterdir()), "what killed writers left is cleared"


def rows_seen(cohort: Path) -> tuple[int, int]:
    """Rows of studies and levels, as a reader gets them who resolves the link once."""
    while True:
        folder = (cohort / "current").resolve(strict=True)
        try:
            return tuple(len(pd.read_parquet(folder / f"{name}.parquet")) for name in ("studies", "levels"))  # type: ignore[return-value]
        except FileNotFoundError:  # the writer published twice meanwhile; a real one does so once a night
            continue
