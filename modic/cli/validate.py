"""`modic validate`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic validate lumbar-2026 --labels readings-A.csv readings-B.csv
  modic validate lumbar-2026 --labels clinic.csv --out clinic-validation

Columns of the CSV: study_key (or study_uid, or patient_id), level (T12/L1 to L5/S1), mc (0, 1, 2; blank: not readable),
reader. The pages of `modic review` export this form. Prints and writes sensitivity, specificity, balanced accuracy,
F1, Cohen's kappa, calibration and more, each with a 95 % interval. `modic report` and
modic.open(COHORT).corrected_prevalence() use the files of COHORT/validation."""
    validate = add_command(commands, "validate", run, "measure the grades of a cohort against human readers", examples)
    validate.add_argument("cohort", **COHORT)
    validate.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="CSV files with one row for each reading of a disc",
    )
    validate.add_argument("--out", type=Path, metavar="DIR", help="folder for the results (default: COHORT/validation)")


def run(options: argparse.Namespace) -> int:
    """`modic validate`."""
    from modic.reader_study.validation import validate

    out = options.out or options.cohort / "validation"
    tables = validate(options.cohort, options.labels, out)
    show("\n\n".join(table.text() for table in tables))
    show(f"\nwritten: {out}/validation.md, readings.parquet, confusion.parquet, metrics.parquet, calibration.parquet")
    return OK
