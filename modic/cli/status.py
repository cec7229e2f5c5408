"""`modic status`."""

import argparse
from typing import Any

from modic.cli.options import COHORT, OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic status lumbar-2026

Looks at the cohort's files alone, so it works without Prefect and while a run is going on: it then tells how far that
is. `uncertain` counts studies whose level names may be shifted by one."""
    command = add_command(
        commands, "status", run, "say what the last run did, what failed, and what the next run will do", examples
    )
    command.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic status`."""
    from modic.cohort import open_cohort
    from modic.errors import UsageError
    from modic.run.status import lines

    try:
        print("\n".join(lines(open_cohort(options.cohort))))
    except PermissionError as error:
        raise UsageError(f"{options.cohort}: its private folder can be read by its owner alone; ask them") from error
    return OK
