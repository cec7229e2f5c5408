"""The database of a run's temporary Prefect server.

Prefect makes an empty one by 113 migrations, which takes longer than anything else before the first study is graded
(4.8 of 11 s of CPU). What they make is kept as SQL for one version of Prefect (Apache-2.0), and any other
version migrates.
"""

import os
import sqlite3
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

NAME = "prefect.db"
SCHEMA = Path(__file__).with_name("prefect_schema.sql")
"""`python tests/support/prefect_schema.py` records it; its first line names the version of Prefect."""


def is_sound(database: Path) -> bool:
    """Whether SQLite finds no damage in the file, or there is none."""
    if not database.exists():
        return True
    try:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:  # locked, not readable, disk full: the server will say so
        return True
    except sqlite3.DatabaseError:
        return False


def make(database: Path) -> None:
    """An empty database, if there is none and the schema is that of the installed Prefect; it appears whole or not.

    A disk that takes none is the server's to tell.
    """
    statements = _statements()
    if database.exists() or not statements:
        return
    new = database.with_name(f"{database.name}.{os.getpid()}.new")
    with suppress(sqlite3.Error, OSError):
        with closing(sqlite3.connect(new)) as connection:
            connection.executescript(statements)
        database.hardlink_to(new)  # unlike a rename it never replaces one that another run made meanwhile
    new.unlink(missing_ok=True)


def is_current(database: Path) -> bool:
    """Whether the installed Prefect has no migration to make in the database, as far as the kept schema can tell."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError):
        return False
    return f"""INSERT INTO "alembic_version" VALUES('{revision}');""" in _statements().splitlines()


def _statements() -> str:
    """The kept schema; empty if it is that of another Prefect."""
    first, _, statements = SCHEMA.read_text(encoding="utf-8").partition("\n")
    return statements if first == heading() else ""


def heading() -> str:
    """The first line of a schema of the installed Prefect."""
    return f"-- Prefect {version('prefect')}: an empty database, as its migrations make it"
