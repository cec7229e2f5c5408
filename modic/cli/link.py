"""`modic link`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic link lumbar-2026 clinic.csv --out linked.csv

clinic.csv has a column patient_id or study_uid, and may have study_date (2024-01-31). linked.csv has patient_key,
study_key and days_since_first_study instead, and every other column that does not identify; dates become days since the
patient's first study. Only the keeper of the cohort's private/ folder can run this; only linked.csv should leave it."""
    command = add_command(
        commands, "link", run, "link a table of clinical data to a cohort, without identifiers", examples
    )
    command.add_argument("cohort", **COHORT)
    command.add_argument("clinic", type=Path, metavar="CSV", help="the table, comma, semicolon or tab between columns")
    command.add_argument("--out", required=True, type=Path, metavar="CSV", help="a new file")


def run(options: argparse.Namespace) -> int:
    """`modic link`."""
    from modic.export.linked import link

    for line in link(options.cohort, options.clinic, options.out):
        show(line)
    return OK
