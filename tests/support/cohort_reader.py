"""What analysts read of a cohort, once and without pause."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modic.tables import query
from modic.tables.schema import SCHEMAS
from modic.tables.store import read_table


def tables(cohort: Path) -> dict[str, pa.Table]:
    """What analysts read, without the names of the runs."""
    return {name: read_table(cohort, name).drop_columns(["run_id"]) for name in ("studies", "series", "levels")}


@contextmanager
def reading(cohort: Path, sizes: set[tuple[int, int]]) -> Iterator[list[str]]:
    """Reads `current/` without pause; gives what was wrong. `sizes`: numbers of studies and levels there may be."""
    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                for name in SCHEMAS:  # as an analyst does, file by file
                    read_by_path(cohort / "current" / f"{name}.parquet")
                folder = query.published(cohort)
                size = tuple(len(pq.read_table(folder / f"{name}.parquet")) for name in ("studies", "levels"))
            except Exception as error:  # noqa: BLE001
                wrong.append(repr(error))
            else:
                wrong.extend([] if size in sizes else [f"{size} rows"])
            stop.wait(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield wrong
    finally:
        stop.set()
        reader.join()


def read_by_path(path: Path) -> pa.Table:
    """As an analyst does. pyarrow opens a path twice, for the footer and for the rows, so a read during which the link
    moved is made again; any other that fails is the cohort's fault."""
    while True:
        led_to = path.parent.readlink()
        try:
            return pq.read_table(path, partitioning=None)
        except OSError:
            if path.parent.readlink() == led_to:
                raise
