"""`modic files`."""

import argparse
import sys
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic files lumbar-2026 --rejected
  modic files lumbar-2026 --reason file.folder_unreadable
  modic files lumbar-2026 > all-files.txt

One line a file, as the last run saw it: what became of it (`read`, or the reason why not), a tab, its path, and, if it
lies in a zip or tar file, another tab and its name there. Paths may identify patients: only the owner of the cohort's
private folder can ask. Counts go to standard error. Exit codes: 0 also if there is none, 2 wrong usage."""
    command = add_command(commands, "files", run, "list the files of the archive and what became of them", examples)
    command.add_argument("cohort", **COHORT)
    command.add_argument("--rejected", action="store_true", help="rejected files alone")
    command.add_argument("--reason", default="", metavar="REASON", help="files rejected for this reason alone")


def run(options: argparse.Namespace) -> int:
    """`modic files`."""
    from modic.cohort import open_cohort
    from modic.errors import Reason, UsageError
    from modic.run.find import count_by_outcome, file_outcomes
    from modic.text import printable

    known = [reason for reason in Reason if reason.startswith("file.")]
    if options.reason and options.reason not in known:
        raise UsageError(f"there is no reason {options.reason}; there are {', '.join(known)}")
    found = file_outcomes(open_cohort(options.cohort), rejected=options.rejected, reason=options.reason)
    for outcome in found:
        show("\t".join(printable(part, keep="") for part in outcome if part))
    print(count_by_outcome(found), file=sys.stderr)
    return OK
