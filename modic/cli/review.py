"""`modic review`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic review lumbar-2026 --sample 200 --by level,grade --readers 2 --out for-readers

A disc is one level of one study. The same number of discs is drawn from every stratum (--by), so that rare grades are
read too; `modic validate` weights the readings back to the cohort. Pages show images alone, no grade of the model.

Give the folder to the readers; each opens a page in a browser, offline, and sends back the CSV that it exports.
Then: modic validate lumbar-2026 --labels readings-reader-1.csv readings-reader-2.csv"""
    review = add_command(
        commands, "review", run, "draw discs for blinded human readers and write their pages", examples
    )
    review.add_argument("cohort", **COHORT)
    review.add_argument("--sample", type=int, default=200, metavar="N", help="discs to read (default: 200)")
    review.add_argument(
        "--by", default="level,grade", metavar="COLUMNS",
        help="strata of equal numbers of discs: level, grade, scanner, sex, year, numbering (default: level,grade)",
    )  # fmt: skip
    review.add_argument(
        "--readers", type=int, default=1, metavar="N", help="readers, each with a page of their own (default: 1)"
    )
    review.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other discs (default: 0)")
    review.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the readers")


def run(options: argparse.Namespace) -> int:
    """`modic review`."""
    from modic.reader_study.sample import review

    by = [name.strip() for name in options.by.split(",") if name.strip()]
    drawn = review(
        options.cohort, options.out, sample=options.sample, by=by, readers=options.readers, seed=options.seed
    )
    print(f"{'stratum':30} discs  drawn")
    for name, (n, n_drawn) in drawn.strata.items():
        show(f"{name[:30]:30} {n:5} {n_drawn:6}")
    if drawn.without_pictures:
        print(f"{drawn.without_pictures} graded discs have no pictures and could not be drawn")
    show(f"sample {drawn.sample_id}: {', '.join(map(str, drawn.pages))}")
    return OK
