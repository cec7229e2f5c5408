"""`modic review`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic review lumbar-2026 --sample 200 --by level,grade --readers 2 --out for-readers
  modic review lumbar-2026 --sample 60 --by patient,grade --out for-readers
  modic review lumbar-2026 --plan --by patient,grade --width 0.05           # how many? nothing is drawn

A disc is one level of one study. The same number of discs is drawn from every stratum (--by), so that rare grades are
read too; `modic validate` weights the readings back to the cohort. With `patient` in --by whole patients are drawn, all
graded discs of their first graded study; then `modic validate` also gives shares of patients.
Pages show images alone, no grade of the model.

Give the folder to the readers; each opens a page in a browser, offline, and sends back the CSV that it exports.
Then: modic validate lumbar-2026 --labels readings-reader-1.csv readings-reader-2.csv"""
    review = add_command(
        commands, "review", run, "draw discs for blinded human readers and write their pages", examples
    )
    review.add_argument("cohort", **COHORT)
    review.add_argument("--sample", type=int, default=200, metavar="N", help="discs (patients) to read (default: 200)")
    review.add_argument(
        "--by", default="level,grade", metavar="COLUMNS",
        help="strata of equal numbers of discs: level, grade, scanner, sex, year, numbering (default: level,grade);"
        " patient draws whole patients",
    )  # fmt: skip
    review.add_argument(
        "--visits", choices=("first", "all"), default="first",
        help="which graded studies of a whole patient are read (default: first; all also shows changes between visits)",
    )  # fmt: skip
    review.add_argument(
        "--plan", action="store_true", help="say how many readings a wanted interval needs; nothing is drawn"
    )
    review.add_argument(
        "--width", type=float, metavar="W",
        help="with --plan: distance from a share to the ends of its interval, 0.02 for ± 2 %% (default: several)",
    )  # fmt: skip
    review.add_argument(
        "--readers", type=int, default=1, metavar="N", help="readers, each with a page of their own (default: 1)"
    )
    review.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other discs (default: 0)")
    review.add_argument("--out", type=Path, metavar="DIR", help="new folder for the readers")


def run(options: argparse.Namespace) -> int:
    """`modic review`."""
    from modic.errors import UsageError
    from modic.reader_study.sample import review

    by = [name.strip() for name in options.by.split(",") if name.strip()]
    if options.plan:
        return _plan(options, by)
    if options.out is None:
        raise UsageError("name a new folder for the readers' pages: --out DIR")
    drawn = review(
        options.cohort, options.out, sample=options.sample, by=by, readers=options.readers, seed=options.seed,
        visits=options.visits,
    )  # fmt: skip
    print(f"{'stratum':30} {drawn.unit + 's':>8}  drawn")
    for name, (n, n_drawn) in drawn.strata.items():
        show(f"{name[:30]:30} {n:8} {n_drawn:6}")
    print(f"{drawn.discs} discs to read")
    if drawn.without_pictures:
        print(f"{drawn.without_pictures} graded discs have no pictures and could not be drawn")
    show(f"sample {drawn.sample_id}: {', '.join(map(str, drawn.pages))}")
    return OK


def _plan(options: argparse.Namespace, by: list[str]) -> int:
    """`modic review --plan`."""
    from modic.reader_study.plan import plan

    show(plan(options.cohort, by=by, width=options.width, visits=options.visits).table().text())
    print(
        "least if the grader's probabilities hold here, most if they tell nothing within a stratum; both are guesses"
        " from probabilities that no reader has checked: validate a first part, then plan again"
    )
    return OK
