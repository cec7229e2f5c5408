"""`modic check`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, RUN_FAILED, add_command

SHOWN = 5  # rows of each query


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic check lumbar-2026 && echo sound

A law is a query of sql/checks that returns the rows that break it: counts that do not add up, a key used twice, a
grade that is not the most probable one. Exit code 0 if no row does, else 1. A query of sql/warnings returns what is
allowed and yet worth knowing, such as rows of several graders; it does not change the exit code."""
    command = add_command(commands, "check", run, "check that a cohort's tables obey their laws", examples)
    command.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic check`."""
    return check(options.cohort)


def check(cohort: Path) -> int:
    """Print the laws that rows break and the warnings, each with some of the rows; 1 if a law is broken, else 0."""
    from modic.tables.query import run_checks, run_warnings

    laws = run_checks(cohort)
    broken = {name: rows for name, rows in laws.items() if rows}
    _print_rows(broken)
    print(f"{len(laws) - len(broken)} of {len(laws)} checks hold")
    _print_rows({f"warning: {name}": rows for name, rows in run_warnings(cohort).items() if rows})
    return RUN_FAILED if broken else OK


def _print_rows(answers: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in answers.items():
        print(f"{name}: {len(rows)} rows")
        for row in rows[:SHOWN]:
            print(f"  {row}")
