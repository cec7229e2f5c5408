"""`modic demo`."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from modic.cli.check import check
from modic.cli.grade import grade
from modic.cli.options import add_command
from modic.errors import UsageError


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic demo
  modic demo --out demo --patients 20

No network, server, GPU or data is needed; six patients take about a minute on two cores. The archive holds synthetic
spines as five manufacturers write them, with missing contrasts and broken files; the true grades lie beside it."""
    demo = add_command(
        commands, "demo", run, "make a synthetic archive, grade it, check it and write its report", examples
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="a new folder, or that of an earlier demo (default: demo)",
    )
    demo.add_argument("--patients", type=int, default=6, metavar="N", help="synthetic patients (default: 6)")
    demo.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed makes the same archive (default: 0)"
    )


def run(options: argparse.Namespace) -> int:
    """`modic demo`."""
    archive, cohort = make_archive(options.out, patients=options.patients, seed=options.seed)
    graded, sound = grade(str(archive), str(cohort)), check(cohort)
    show(options.out)
    return graded or sound


FAULTS = ("missing_slice", "frame_of_reference", "duplicate_files")
"""Faults of the synthetic studies. They exclude a study or are harmless; none fails, so that exit code 3 is a bug."""


def make_archive(folder: Path, *, patients: int, seed: int) -> tuple[Path, Path]:
    """The folders of the demo's archive, which is written once, and of its cohort.

    Raises UsageError if `folder` holds the demo of other patients, or other files.
    """
    from modic.phantom.archive import write_archive

    if patients < 1:
        raise UsageError("a demo needs at least one patient")
    archive, cohort, note = folder / "archive", folder / "cohort", folder / "demo.json"
    wanted = {"patients": patients, "seed": seed}
    from modic.files import read_json

    if read_json(note) == wanted:
        return archive, cohort
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is not empty and holds no demo of {patients} patients, seed {seed}; name another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_archive(archive, patients=patients, seed=seed, faults=FAULTS)
    except BaseException:
        shutil.rmtree(archive, ignore_errors=True)
        raise
    note.write_text(json.dumps(wanted), encoding="utf-8")
    return archive, cohort


def show(folder: Path) -> None:
    """Print how many grades of each level are right, and the paths of archive, tables and report."""
    from modic.cohort import Cohort
    from modic.tables.query import connect, statements

    archive, cohort = folder / "archive", folder / "cohort"
    places = {"links": str(Cohort(cohort).links), "truth": str(folder / "archive.truth" / "levels.csv")}
    with connect(cohort) as connection:
        for name, place in places.items():
            connection.execute(f"SET VARIABLE {name} = ?", [place])
        rows = connection.execute(statements("demo")["agreement"]).fetchall()
    print("\nlevel    graded  sure  right  wrong   (of the sure ones; synthetic spines say nothing about patients)")
    for level, *counts in rows:
        print("{:8} {:6} {:5} {:6} {:6}".format(level, *counts))
    print(f"\narchive  {archive}\ntables   {cohort / 'current'}\nreport   {cohort / 'report.html'}")
    print(f'query    modic query {cohort} "FROM levels"')
