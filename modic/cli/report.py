"""`modic report`."""

import argparse
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic report lumbar-2026

Every run writes its report. This command writes it again, for example after `modic validate`, to show corrected
prevalences. It prints the path of the page, which opens in a browser without a server or network."""
    report = add_command(commands, "report", run, "write the HTML report of the last finished run again", examples)
    report.add_argument("cohort", **COHORT)


def run(options: argparse.Namespace) -> int:
    """`modic report`."""
    from modic.report.page import write_report

    show(write_report(options.cohort))
    return OK
