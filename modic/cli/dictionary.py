"""`modic dictionary`."""

import argparse
import sys
from typing import Any

from modic.cli.options import OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic dictionary > dictionary.md

The same text lies beside the tables of every cohort, as current/dictionary.md and, for programs, datapackage.json."""
    add_command(commands, "dictionary", run, "print the meaning of every column of the tables", examples)


def run(options: argparse.Namespace) -> int:
    """`modic dictionary`."""
    from modic.tables.dictionary import dictionary

    sys.stdout.write(dictionary())
    return OK
