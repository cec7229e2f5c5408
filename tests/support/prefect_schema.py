"""The database that Prefect's migrations make; `python tests/support/prefect_schema.py` records it as SQL."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from flows.prefect_database import SCHEMA, heading

MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def migrated(folder: Path) -> list[str]:
    """The statements that make such a database anew; `folder` is empty."""
    path = folder / "prefect.db"
    settings = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{path}"}
    subprocess.run([sys.executable, "-c", MIGRATE], env=os.environ | settings, check=True)
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        SCHEMA.write_text("\n".join([heading(), *migrated(Path(folder))]) + "\n", encoding="utf-8")
    print(SCHEMA)
