"""The data dictionary: every column said, the same for people and programs, and no silent change of the schema."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from made_cohort import RUN, make_cohort
from modic.tables.dictionary import MARKDOWN, PACKAGE, dictionary
from modic.tables.schema import CLOSED, REFERENCES, SCHEMA_VERSION, SCHEMAS
from schema_snapshot import breaks, path_of, snapshot

UNITS = {"ms": "ms", "mm": "mm", "years": "year", "t": "T", "fraction": "1", "year": "year", "probability": "1"}
"""Ending of a column's name → its unit."""

QUANTITIES = ("int", "float", "double")
NO_QUANTITY = {
    *((table, "grading_version") for table in ("levels", "runs")),
    *((table, "archive") for table in ("studies", "runs")),
    ("levels", "mc"),
}


def test_no_column_is_without_meaning_and_no_quantity_without_unit() -> None:
    for name, schema in SCHEMAS.items():
        for field in schema:
            said = {key.decode(): text.decode() for key, text in field.metadata.items()}
            assert len(said["description"]) > 10, f"{name}.{field.name}"
            quantity = str(field.type).startswith(QUANTITIES) and (name, field.name) not in NO_QUANTITY
            assert ("unit" in said) == quantity, f"{name}.{field.name}"
            if unit := UNITS.get(field.name.rsplit("_", 1)[-1]):
                assert said["unit"] == unit, f"{name}.{field.name}"


def test_closed_lists_and_references_are_of_columns_that_exist() -> None:
    assert not [key for key in [*CLOSED, *REFERENCES] if key[1] not in SCHEMAS[key[0]].names]


def test_a_breaking_change_needs_a_new_version() -> None:
    path = path_of(SCHEMA_VERSION)
    assert path.exists(), "record it with python tests/support/schema_snapshot.py, and say it in CHANGELOG"
    known, now = json.loads(path.read_text(encoding="utf-8")), snapshot()
    assert breaks(known, now) == [], "raise SCHEMA_VERSION in modic/tables/schema.py"
    new = [f"{t}.{c}" for t, columns in now["columns"].items() for c in columns if c not in known["columns"].get(t, {})]
    assert new == [], "record new columns with python tests/support/schema_snapshot.py"


@pytest.mark.parametrize(
    "table, column, change, said",
    [
        ("levels", "mc", None, "levels.mc is gone"),
        ("levels", "mc", {"type": "string"}, "levels.mc: type"),
        ("series", "echo_time_ms", {"unit": "s"}, "series.echo_time_ms: unit"),
        ("studies", "status", {"nullable": True}, "studies.status may be null"),
        ("studies", "status", {"values": ["graded"]}, "studies.status: allowed values ['excluded', 'failed']"),
    ],
)
def test_what_would_break_a_reader_is_seen(table: str, column: str, change: dict | None, said: str) -> None:
    now = snapshot()
    later = deepcopy(now)
    if change is None:
        del later["columns"][table][column]
    else:
        later["columns"][table][column] |= change
    assert breaks(now, later) == [said]
    later = deepcopy(now)
    later["columns"]["studies"]["weight_kg"] = later["columns"]["studies"]["age_years"]
    later["columns"]["studies"]["reason"]["values"].append("study.new_reason")
    assert breaks(now, later) == []


def test_the_files_say_version_meaning_and_unit(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    for name in SCHEMAS:
        schema = pq.read_schema(tmp_path / "current" / f"{name}.parquet")
        assert schema.metadata[b"schema_version"].decode() == str(SCHEMA_VERSION)
    assert pq.read_schema(tmp_path / "current" / "series.parquet").field("echo_time_ms").metadata[b"unit"] == b"ms"


def test_markdown_lies_beside_the_tables_and_is_whole(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    text = (tmp_path / "current" / MARKDOWN).read_text(encoding="utf-8")
    assert text == dictionary()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [field.name for schema in SCHEMAS.values() for field in schema]
    assert {rest.count("|") for _, rest in rows} == {4}, "a cell that splits a row"
    assert "| `mc` | int8 |  | yes | Modic change: 0 none" in text and "| 0 to 2 |" in text
    assert "`graded`, `not_found`, `unreadable`" in text and "a key of studies" in text


def test_the_repository_holds_the_same_text() -> None:
    text = (Path(__file__).parents[3] / "sql" / MARKDOWN).read_text(encoding="utf-8")
    assert text == dictionary(), "write it anew: modic dictionary > sql/dictionary.md"


def test_the_data_package_is_valid_and_describes_the_files(tmp_path: Path) -> None:
    from frictionless import Package

    make_cohort(tmp_path)
    described = json.loads((tmp_path / "current" / PACKAGE).read_text(encoding="utf-8"))
    assert list(Package.metadata_validate(described)) == []
    package = Package.from_descriptor(described)
    assert package.resource_names == list(SCHEMAS) and described["id"] == RUN
    for resource, raw in zip(package.resources, described["resources"], strict=True):
        file = pq.ParquetFile(tmp_path / "current" / raw["path"])
        assert resource.schema.field_names == file.schema_arrow.names
        assert raw["rows"] == file.metadata.num_rows
        assert all(field.description for field in resource.schema.fields)
    assert package.get_resource("levels").schema.get_field("mc").constraints == {"minimum": 0, "maximum": 2}


def test_the_files_are_what_the_data_package_says(tmp_path: Path) -> None:
    from frictionless import Package

    make_cohort(tmp_path)
    path = tmp_path / "current" / PACKAGE
    report = Package(str(path)).validate()
    assert report.valid, [error.message for task in report.tasks for error in task.errors][:5]
    levels = pq.read_table(path.with_name("levels.parquet"), partitioning=None)
    assert levels["mc"].null_count and any(levels["prediction_set"].to_pylist())
    path.write_text(path.read_text(encoding="utf-8").replace('"maximum": 2', '"maximum": 1'), encoding="utf-8")
    assert not Package(str(path)).validate().valid


def test_a_wrong_package_would_not_pass() -> None:
    from frictionless import Package

    wrong = {
        "name": "modic-cohort",
        "resources": [{"name": "levels", "path": "levels.parquet", "schema": {"fields": 3}}],
    }
    assert list(Package.metadata_validate(wrong)) != []
