"""`modic export`."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command
from modic.export import FORMATS

MI = "mi"
"""The format of imputed grades, which is made from answers and not from the tables alone."""


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic export lumbar-2026 --format csv --out lumbar-csv
  modic export lumbar-2026 --format stata --out lumbar-stata # needs pip install 'modic[stats]'
  modic export lumbar-2026 --format mi --data linked.csv --out lumbar-mi # imputed grades, Stata's mi and R's mice
  modic export lumbar-2026 --format omop --out lumbar-omop
  modic export lumbar-2026 --format sr --out lumbar-sr       # needs pip install 'modic[sr]'

csv: the four tables and their dictionary. stata, spss, r: a row a graded level and a row a patient, with labels. mi:
the true grades, drawn from what readers said (modic validate), with the lines that Stata and R need. omop:
measurement, image_occurrence, image_feature, and load.sql, which loads them once concepts, persons and dates are filled
in on site. sr: boxes and grades as DICOM SR (TID 1500) for the PACS; it names patients and original UIDs."""
    command = add_command(
        commands, "export", run, "write a cohort's tables as CSV, for Stata or SPSS, as OMOP CDM or DICOM SR", examples
    )
    command.add_argument("cohort", **COHORT)
    command.add_argument("--format", required=True, choices=(*FORMATS, MI), help="see below")
    command.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder outside the cohort")
    command.add_argument(
        "--data", type=Path, metavar="CSV", help="with mi: your own covariates by patient_key or study_key (modic link)"
    )
    command.add_argument("--imputations", type=int, default=20, metavar="M", help="with mi: how many (default: 20)")
    command.add_argument(
        "--visits", choices=("first", "all"), default="first", help="with mi: which graded studies (default: first)"
    )


def run(options: argparse.Namespace) -> int:
    """`modic export`."""
    from modic.export import export

    write = partial(_write_mi, options) if options.format == MI else None
    for line in export(options.cohort, options.out, format=options.format, write=write):
        print(line)
    return OK


def _write_mi(options: argparse.Namespace, cohort: Path, out: Path) -> list[str]:
    """Files of imputed grades."""
    from modic.analysis.cohort_data import CohortData
    from modic.analysis.mi_files import check_names, write_mi
    from modic.errors import UsageError
    from modic.export.linked import covariates

    if options.imputations < 2:
        raise UsageError("--imputations must be at least 2")
    data = None
    if options.data:
        data = covariates(options.data)
        empty = [name for name in ("study_key", "patient_key") if name in data and not data[name].notna().all()]
        data = data.drop(columns=empty)
    own = () if data is None else tuple(n for n in data.columns if n not in ("study_key", "patient_key"))
    check_names(own)
    imputed = CohortData.of(cohort).imputed(options.imputations, data=data, visits=options.visits)
    return write_mi(imputed, out, data=own)
