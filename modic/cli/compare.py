"""`modic compare`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic compare lumbar-2026 20261101T200000Z-1f0c 20261123T200000Z-77ab --out moved.csv

A run's grades are those of each study's last grading up to that run. Prints which grader made them, the cross table of
the answers, Cohen's kappa, prevalence under both, and the levels that moved. `modic query COHORT "FROM runs"` names the
runs."""
    command = add_command(commands, "compare", run, "compare the grades of two runs of a cohort", examples)
    command.add_argument("cohort", **COHORT)
    command.add_argument("first", metavar="RUN", help="id of the earlier run")
    command.add_argument("second", metavar="RUN", help="id of the later run")
    command.add_argument("--out", type=Path, metavar="CSV", help="a new file for all levels that moved")


def run(options: argparse.Namespace) -> int:
    """`modic compare`."""
    from modic.errors import UsageError
    from modic.files import write_whole
    from modic.run.compare import compare

    if options.out is not None and options.out.exists():
        raise UsageError(f"{options.out} exists; give a new file")
    found = compare(options.cohort, options.first, options.second)
    show("\n\n".join(table.text() for table in found.tables()))
    if options.out is not None:
        write_whole(options.out, found.moved.to_csv(index=False))
        show(f"\nwritten: {options.out}")
    return OK
