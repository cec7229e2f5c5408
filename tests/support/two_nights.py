"""Two runs of a cohort on the file system at `at`, and what became of it, as JSON on standard output."""

import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dicoms import study, write
from fake_worker import without_networks
from modic.errors import ModicError, UsageError
from modic.tables.query import published, run_checks
from modic.tables.store import read_table
from plain_run import plain_run


def two_nights(archive: Path, cohort: Path) -> dict[str, Any]:
    """Grade three studies, then a fourth; lose `current`, and run again."""
    for patient in ("ann", "bob", "cid"):
        write(study(patient=patient, rows=16, columns=16), archive / patient)
    first = plain_run(archive, cohort)
    write(study(patient="dan", rows=16, columns=16), archive / "dan")
    second = plain_run(archive, cohort)
    current = cohort / "current"
    link = current.is_symlink()
    copied = {name: pq.read_table(current / f"{name}.parquet", partitioning=None) for name in ("studies", "levels")}
    current.unlink() if link else current.rename(cohort.parent / "lost")  # FUSE may still hold files of it
    third = plain_run(archive, cohort)
    return {
        "graded": [one.graded_now for one in (first, second, third)],
        "link": link,
        "levels": len(read_table(cohort, "levels")),
        "runs": len(read_table(cohort, "runs")),
        "by path": [len(table) for table in copied.values()],
        "stable": published(cohort).parent.name,
        "checks broken": [name for name, rows in run_checks(cohort).items() if rows],
        "left over": [path.name for path in (*cohort.glob(".*.tmp"), *cohort.glob("private/.*"))],
        "private": oct(stat.S_IMODE((cohort / "private").stat().st_mode)),
    }


SOUND = {
    "graded": [3, 1, 0], "levels": 24, "runs": 3, "by path": [4, 24], "stable": ".tables", "checks broken": [],
    "left over": [], "private": "0o700",
}  # fmt: skip
"""What `two_nights` returns on a file system that does, besides `link`."""


def fill_up(archive: Path, cohort: Path) -> dict[str, Any]:
    """Runs on a small disk that somebody else fills more and more, and one after the disk was freed."""
    for patient in ("ann", "bob", "cid"):
        write(study(patient=patient, rows=16, columns=16), archive / patient)
    plain_run(archive, cohort)
    write(study(patient="dan", rows=16, columns=16), archive / "dan")
    said, ballast = [], cohort.parent / "ballast"
    for free in (0, 1, 2, 4, 8, 16, 32, 64):
        with ballast.open("wb") as file:
            fill(file, shutil.disk_usage(cohort).free - free * 4096)
        try:
            plain_run(archive, cohort)
        except ModicError as error:
            said.append(f"{isinstance(error, UsageError)} {error}")
        ballast.unlink()
        assert len(read_table(cohort, "levels")) in (18, 24)
    last = plain_run(archive, cohort)
    return {"said": said, "graded": last.graded_now, "levels": len(read_table(cohort, "levels")),
            "left over": [str(path) for path in cohort.rglob(".*.tmp")]}  # fmt: skip


def fill(file: Any, size: int) -> None:
    """Write `size` bytes, or as many as there is space for."""
    try:
        file.write(b"x" * max(size, 0))
        file.flush()
    except OSError:
        pass


if __name__ == "__main__":
    without_networks()
    try:
        answer = {"nights": two_nights, "fill": fill_up}[sys.argv[1]](Path("archive"), Path("at/cohort"))
    except ModicError as error:
        answer = {"refused": isinstance(error, UsageError), "said": str(error)}
    print(json.dumps(answer))
