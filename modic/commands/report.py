"""`modic report`."""

import argparse
from pathlib import Path
from typing import Any

from modic.commands.adding import OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = "  modic report lumbar-2026"
    report = add_command(commands, "report", run, "write the HTML report of the last finished run again", examples)
    report.add_argument("cohort", type=Path, metavar="COHORT")


def run(options: argparse.Namespace) -> int:
    """`modic report`."""
    from modic.report import write_report

    print(write_report(options.cohort))
    return OK
