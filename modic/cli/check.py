"""`modic check`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, RUN_FAILED, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic check lumbar-2026 && echo sound

A law is a query of sql/checks that returns the rows that break it: counts that do not add up, a key used twice, a
grade that is not the most probable one. Exit code 0 only if no row does, else 1."""
    command = add_command(commands, "check", run, "check that a cohort's tables obey their laws", examples)
    command.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic check`."""
    return check(options.cohort)


def check(cohort: Path) -> int:
    """Print the laws that rows break, with some of the rows; 1 where there are any."""
    from modic.tables.query import run_checks

    outcome = run_checks(cohort)
    broken = {name: rows for name, rows in outcome.items() if rows}
    for name, rows in broken.items():
        print(f"{name}: {len(rows)} rows")
        for row in rows[:5]:
            print(f"  {row}")
    print(f"{len(outcome) - len(broken)} of {len(outcome)} checks hold")
    return RUN_FAILED if broken else OK
