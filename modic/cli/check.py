"""`modic check`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, RUN_FAILED, add_command, show
from modic.text import counted

SHOWN = 5  # rows of each query that are printed


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic check lumbar-2026 && echo sound

A check is a query of sql/checks that returns the rows that break a rule: counts that do not add up, a key used twice,
a grade that is not the most probable one. Exit code 0 if no row does, else 1. A warning is a query of sql/warnings; it
returns what is allowed and yet worth knowing, such as rows of several graders, and does not change the exit code."""
    command = add_command(commands, "check", run, "check that the tables of a cohort keep their rules", examples)
    command.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic check`."""
    return check(options.cohort)


def check(cohort: Path) -> int:
    """Print the checks that fail and the warnings, each with some of its rows; returns 1 if a check fails, else 0."""
    from modic.tables.query import run_checks, run_warnings

    checks = run_checks(cohort)
    broken = {name: rows for name, rows in checks.items() if rows}
    _print_rows(broken)
    print(f"{len(checks) - len(broken)} of {len(checks)} checks hold")
    _print_rows({f"warning: {name}": rows for name, rows in run_warnings(cohort).items() if rows})
    return RUN_FAILED if broken else OK


def _print_rows(answers: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in answers.items():
        print(f"{name}: {counted(len(rows), 'row')}")
        for row in rows[:SHOWN]:
            show(f"  {row}")
