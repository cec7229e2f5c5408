"""`modic status`."""

import argparse
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic status lumbar-2026

Reads the cohort's files alone, so it works without Prefect. While a run is going on it shows how far the run is.
`uncertain` counts studies whose level names may be shifted by one."""
    command = add_command(
        commands, "status", run, "show what the last run did, what failed, and what the next run will do", examples
    )
    command.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic status`."""
    from modic.cohort import open_cohort
    from modic.run.status import lines

    show("\n".join(lines(open_cohort(options.cohort))))
    return OK
