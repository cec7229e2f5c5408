"""The empty database of a temporary Prefect server: as Prefect's migrations make it, and in the place of none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows import prefect_database
from prefect_schema import migrated


def test_is_what_the_migrations_of_the_installed_prefect_make(tmp_path: Path) -> None:
    heading, kept = prefect_database.SCHEMA.read_text(encoding="utf-8").split("\n", 1)
    assert heading == prefect_database.heading(), "python tests/support/prefect_schema.py records it anew"
    assert lines(kept) == lines("\n".join(migrated(tmp_path)))


def lines(statements: str) -> list[str]:
    """Of a dump, in any order: alembic writes the constraints of a table in another order each time."""
    return sorted(line.strip().rstrip(",") for line in statements.splitlines())


def test_holds_the_tables_and_is_sound(tmp_path: Path) -> None:
    path = tmp_path / prefect_database.NAME
    prefect_database.make(path)
    assert prefect_database.is_sound(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_never_replaces_a_database(tmp_path: Path) -> None:
    path = tmp_path / prefect_database.NAME
    path.write_bytes(b"of another run")
    prefect_database.make(path)
    assert path.read_bytes() == b"of another run"


def test_another_version_of_prefect_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_database, "version", lambda _: "3.99.0")
    prefect_database.make(tmp_path / prefect_database.NAME)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_file_is_left_to_the_server(tmp_path: Path) -> None:
    prefect_database.make(tmp_path / "missing" / prefect_database.NAME)
    assert not list(tmp_path.iterdir())


def test_needs_no_migration_only_as_the_installed_prefect_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / prefect_database.NAME
    assert not prefect_database.is_current(path)
    prefect_database.make(path)
    assert prefect_database.is_current(path)
    with monkeypatch.context() as patch:
        patch.setattr(prefect_database, "version", lambda _: "3.99.0")
        assert not prefect_database.is_current(path)
    for other in ("UPDATE alembic_version SET version_num = '0'", "DELETE FROM alembic_version"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(other)
        assert not prefect_database.is_current(path)
    path.write_bytes(b"no database")
    assert not prefect_database.is_current(path)
