"""`modic cite`."""

import argparse
from typing import Any

from modic.cli.options import OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic cite >> references.bib

The program, the paper whose method it follows, and the data that the shipped weights were trained with."""
    add_command(commands, "cite", run, "print what to cite, as BibTeX", examples)


def run(options: argparse.Namespace) -> int:
    """`modic cite`."""
    from modic.report.citation import bibtex

    show(bibtex())
    return OK
