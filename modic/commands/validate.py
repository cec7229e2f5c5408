"""`modic validate`."""

import argparse
from pathlib import Path
from typing import Any

from modic.commands.adding import OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic validate lumbar-2026 --labels readings-A.csv readings-B.csv
  modic validate lumbar-2026 --labels clinic.csv --out clinic-validation

Columns: study_key (or study_uid, or patient_id), level, mc (0, 1, 2 or blank), reader. What the pages of
`modic review` export is of this form. By default the cohort keeps the last validation, for corrected prevalence."""
    validate = add_command(commands, "validate", run, "measure the grades of a cohort against human readers", examples)
    validate.add_argument("cohort", type=Path, metavar="COHORT")
    validate.add_argument(
        "--labels", type=Path, nargs="+", required=True, metavar="FILE", help="CSV, one row a reading"
    )
    validate.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: COHORT/validation)")


def run(options: argparse.Namespace) -> int:
    """`modic validate`."""
    from modic.validation import validate

    out = options.out or options.cohort / "validation"
    tables = validate(options.cohort, options.labels, out)
    print("\n\n".join(table.text() for table in tables))
    print(f"\nwritten: {out}/validation.md, readings.parquet, confusion.parquet, metrics.parquet, calibration.parquet")
    return OK
