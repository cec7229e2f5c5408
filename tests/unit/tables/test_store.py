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
import pyarrow.compute as pc
import pytest

from made_cohort import RUN, as_tables, key, make_cohort, make_rows
from modic import files
from modic.errors import ModicError
from modic.files import write_table
from modic.records import LEVELS
from modic.tables import store
from modic.tables.published import is_whole
from modic.tables.schema import KEYS, ROWS, SCHEMAS
from modic.tables.store import Changed, enforce, publish, read_rows, read_table


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


def of_studies(tables: dict[str, pa.Table], keys: set[str]) -> dict[str, pa.Table]:
    """The rows about some studies; `runs` whole."""
    wanted = pa.array(sorted(keys), pa.string())
    return {n: t if n == "runs" else t.filter(pc.is_in(t["study_key"], wanted)) for n, t in tables.items()}


@pytest.mark.parametrize("seed", range(6))
def test_what_changed_is_put_among_rows_that_stay_as_if_all_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Studies that are new, that changed, that stay: the same files, byte for byte, with row groups of 7 rows."""
    monkeypatch.setattr(files, "ROW_GROUP", 7)
    dice, whole = random.Random(seed), as_tables(make_rows(12))
    studies = whole["studies"]["study_key"].to_pylist()
    before = set(dice.sample(studies, dice.randint(0, len(studies))))
    changed = (set(studies) - before) | set(dice.sample(sorted(before), min(len(before), dice.randint(0, 4))))
    publish(tmp_path / "cohort", of_studies(whole, before), RUN)
    rows = of_studies(whole, changed)
    again = {key for key in before & changed if dice.random() < 0.5}
    for name in ("series", "levels"):  # other rows than before
        run_ids = ["later" if key in again else RUN for key in whole[name]["study_key"].to_pylist()]
        whole[name] = store.with_column(whole[name], "run_id", run_ids)
        rows[name] = whole[name].filter(pc.is_in(whole[name]["study_key"], pa.array(sorted(changed), pa.string())))
        rows[name] = rows[name].take(dice.sample(range(len(rows[name])), len(rows[name])))
    parts = {name: Changed(rows[name], pa.array(sorted(changed), pa.string())) for name in ("series", "levels")}
    folder = publish(tmp_path / "cohort", {n: whole[n] for n in ("studies", "runs")}, RUN, changed=parts)
    expected = publish(tmp_path / "whole", whole, RUN)
    for name in SCHEMAS:
        assert read_table(tmp_path / "cohort", name).equals(read_table(tmp_path / "whole", name))
        assert (folder / f"{name}.parquet").read_bytes() == (expected / f"{name}.parquet").read_bytes()
    assert (folder / "datapackage.json").read_bytes() == (expected / "datapackage.json").read_bytes()
    some = pa.array(sorted(changed), pa.string())
    assert read_rows(tmp_path / "cohort", "levels", some).equals(enforce("levels", rows["levels"]))


def test_changes_that_break_a_rule_are_not_published(tmp_path: Path) -> None:
    whole = as_tables(make_rows())
    cohort, folder = tmp_path, publish(tmp_path, whole, RUN)
    given = {name: whole[name] for name in ("studies", "runs")}
    graded = whole["levels"]["study_key"][0].as_py()
    rows = of_studies(whole, {graded})
    keys, none = pa.array([graded]), pa.array([], pa.string())
    good = {name: Changed(rows[name], keys) for name in ("series", "levels")}
    for wrong, said in (
        ({"levels": Changed(rows["levels"][1:], keys)}, "not six rows"),
        ({"levels": Changed(rows["levels"][:0], keys)}, "not six rows"),
        ({"levels": Changed(rows["levels"], none)}, "not six rows"),
        ({"series": Changed(rows["series"], none)}, "two rows share one series_key"),
        ({"levels": Changed(store.with_column(rows["levels"], "status", ["odd"] * 6), keys)}, "closed list"),
    ):
        with pytest.raises(ValueError, match=said):
            publish(cohort, given, RUN, changed={**good, **wrong})
    assert [path.resolve() for path in (cohort / ".tables").iterdir()] == [folder.resolve()], "nothing is left"
    assert (cohort / "current").resolve() == folder.resolve()


def test_a_table_that_is_damaged_is_not_put_among_others(tmp_path: Path) -> None:
    whole = as_tables(make_rows())
    folder = publish(tmp_path, whole, RUN)
    content = bytearray((folder / "levels.parquet").read_bytes())
    content[200:260] = b"\xff" * 60
    (folder / "levels.parquet").write_bytes(content)
    nothing = {name: Changed(whole[name][:0], pa.array([], pa.string())) for name in ("series", "levels")}
    given = {name: whole[name] for name in ("studies", "runs")}
    with pytest.raises(ModicError, match=r"levels\.parquet is damaged"):
        publish(tmp_path, given, RUN, changed=nothing)
    assert len(list((tmp_path / ".tables").iterdir())) == 1


def test_what_changes_in_a_table_of_an_earlier_version_is_written_with_all_columns(tmp_path: Path) -> None:
    whole = as_tables(make_rows())
    folder = publish(tmp_path, whole, RUN)
    write_table(whole["series"].drop_columns(["warnings"]), folder / "series.parquet")
    some = whole["series"]["study_key"][0].as_py()
    parts = {n: Changed(t, pa.array([some])) for n, t in of_studies(whole, {some}).items() if n in ("series", "levels")}
    publish(tmp_path, {name: whole[name] for name in ("studies", "runs")}, RUN, changed=parts)
    now = read_table(tmp_path, "series")
    assert now.schema.names == SCHEMAS["series"].names and len(now) == len(whole["series"])
    of_others = now.filter(pc.not_equal(now["study_key"], some))
    assert of_others["warnings"].null_count == len(of_others)
