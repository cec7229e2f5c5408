"""What the last report showed of each study, so that the next one makes anew only what changed.

`private/report_cases.parquet` holds, of every study that was shown, its part of the page as JSON and its `state`: a
hash of everything in the tables that the part was made of, and place, size and time of its `case.json`. The file counts
only if the same code and the same DuckDB wrote it. If it is missing or damaged, everything is made anew.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modic.cohort import Cohort
from modic.files import write_table
from modic.tables.query import statements
from modic.versions import code_hash

CODE = ("cases", "tables", "../sql/cases", "sql/cases")
"""Packages, and folders of SQL, whose code decides what a page shows of a study."""
SCHEMA = pa.schema(
    [("study_key", pa.string()), ("state", pa.string()), ("kind", pa.int8()), ("extent", pa.float64()),
     ("study", pa.string())]
)  # fmt: skip
"""One study of the page. `kind` and `extent`: of `modic.cases.outliers.rank`; `study`: its part of the page, JSON."""
RANK = ("kind", "extent", "study_key")


def states(
    connection: duckdb.DuckDBPyConnection, cohort: Cohort, pictured: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Study key → state, of the studies that the tables of the connection hold.

    `pictured`: run and key of the studies that have a folder of pictures.
    """
    of_images = {key: _state_of(cohort.pictures(run_id, key)) for run_id, key in pictured}
    rows = connection.execute(statements("cases")["states"]).fetchall()
    return {key: f"{state} {of_images.get(key, '')}" for key, state in rows}


def _state_of(folder: Path) -> str:
    """Where the pictures lie, and size and time of their `case.json`."""
    with suppress(OSError):
        found = (folder / "case.json").stat()
        return f"{folder.parent.parent.name} {found.st_size} {found.st_mtime_ns}"
    return ""


def remembered(cohort: Cohort, now: Mapping[str, str]) -> pa.Table:
    """What the last report showed of the studies whose state is as `now` says: rows of SCHEMA."""
    with suppress(OSError, ValueError, KeyError, pa.ArrowException):
        table = pq.read_table(_path(cohort), partitioning=None, page_checksum_verification=True)
        if table.schema.metadata.get(b"made_by") == _made_by().encode():
            table = table.select(SCHEMA.names).cast(SCHEMA)
            states = pa.array([now.get(key) for key in table["study_key"].to_pylist()], pa.string())
            return table.filter(pc.equal(table["state"], states))
    return SCHEMA.empty_table()


def remember(cohort: Cohort, shown: pa.Table) -> None:
    """Keep rows of SCHEMA for the next report; somebody who may not write there makes a report all the same."""
    with suppress(OSError):
        write_table(shown.replace_schema_metadata({"made_by": _made_by()}), _path(cohort))


def in_order(shown: pa.Table) -> list[str]:
    """The parts of the page as JSON, those to look at first in front. `shown`: rows of SCHEMA."""
    texts: list[str] = shown.sort_by([(name, "ascending") for name in RANK])["study"].to_pylist()
    return texts


def _made_by() -> str:
    return f"{code_hash(*CODE)} {duckdb.__version__}"


def _path(cohort: Cohort) -> Path:
    return cohort.private / "report_cases.parquet"
