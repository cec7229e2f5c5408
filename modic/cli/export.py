"""`modic export`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command
from modic.export import FORMATS


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic export lumbar-2026 --format csv --out lumbar-csv
  modic export lumbar-2026 --format stata --out lumbar-stata # needs pip install 'modic[stats]'
  modic export lumbar-2026 --format omop --out lumbar-omop
  modic export lumbar-2026 --format sr --out lumbar-sr       # needs pip install 'modic[sr]'

csv: the four tables and their dictionary. stata, spss: a row a graded level and a row a patient, with labels. omop:
measurement, image_occurrence, image_feature, and load.sql, which loads them once concepts, persons and dates are filled
in on site. sr: boxes and grades as DICOM SR (TID 1500) for the PACS; it names patients and original UIDs."""
    command = add_command(
        commands, "export", run, "write a cohort's tables as CSV, for Stata or SPSS, as OMOP CDM or DICOM SR", examples
    )
    command.add_argument("cohort", **COHORT)
    command.add_argument("--format", required=True, choices=FORMATS, help="see below")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder outside the cohort")


def run(options: argparse.Namespace) -> int:
    """`modic export`."""
    from modic.export import export

    for line in export(options.cohort, options.out, format=options.format):
        print(line)
    return OK
