"""`modic find`."""

import argparse
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic find lumbar-2026 s_08bb1c6a9f3d2e10
  modic find lumbar-2026 4711
  modic find lumbar-2026 1.2.840.113619.2.55.3 --files

NAME is a study_key, series_key or patient_key, a patient id, a UID of a study, series or image, or the path of a file
or folder. The answer identifies patients: only the owner of the cohort's private folder can ask.
Exit codes: 0 found, 2 nothing has this name, or wrong usage."""
    command = add_command(
        commands, "find", run, "show which patient, study and files a key stands for, and the other way round", examples
    )
    command.add_argument("cohort", **COHORT)
    command.add_argument("name", metavar="NAME", help="a key, patient id, UID or path")
    command.add_argument("--files", action="store_true", help="list every file (default: the folders)")


def run(options: argparse.Namespace) -> int:
    """`modic find`."""
    from modic.cohort import open_cohort
    from modic.run.find import find
    from modic.text import printable

    for line in find(open_cohort(options.cohort), options.name, files=options.files):
        show(printable(line, keep=""))  # an id or a name of a file may hold lines
    return OK
