"""`modic review`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show
from modic.text import counted


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic review lumbar-2026 --sample 200 --by level,grade --readers 2 --out for-readers
  modic review lumbar-2026 --sample 60 --by patient,grade --out for-readers
  modic review lumbar-2026 --plan --by patient,grade --width 0.05           # how many? nothing is drawn
  modic review lumbar-2026 --next 100 --out next-discs
  modic review lumbar-2026 --again SAMPLE --out for-another-reader           # the same discs, blind to what was read
  modic review lumbar-2026 --arbitrate readings-reader-1.csv readings-reader-2.csv --out for-the-arbiter

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
    what = review.add_mutually_exclusive_group()
    what.add_argument("--sample", type=int, default=200, metavar="N", help="discs (patients) to read (default: 200)")
    what.add_argument(
        "--next", type=int, metavar="N", dest="next_discs",
        help="discs to read next, of no earlier sample: half at random, half uncertain, rare or unlike what was read",
    )  # fmt: skip
    what.add_argument(
        "--arbitrate", type=Path, nargs="+", metavar="FILE",
        help="a page for the discs on which the readers of these CSV files disagree",
    )  # fmt: skip
    what.add_argument(
        "--again", metavar="SAMPLE",
        help="pages for more readers of a sample that was drawn before (its name is in each CSV): the same discs",
    )  # fmt: skip
    review.add_argument(
        "--by", metavar="COLUMNS",
        help="strata of equal numbers of discs: level, grade, scanner, field (strength), sex, year, numbering (default:"
        " level,grade; with --next: grade); patient draws whole patients",
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
    review.add_argument(
        "--first-reader", type=int, default=2, metavar="N",
        help="with --again: number of the first of these readers, so that two have no name in common (default: 2)",
    )  # fmt: skip
    review.add_argument("--endplates", action="store_true", help="ask for both endplates of each disc first")
    review.add_argument(
        "--repeats", type=int, default=0, metavar="N",
        help="discs that each reader reads twice, unannounced, for the agreement of readers with themselves",
    )  # fmt: skip
    review.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other discs (default: 0)")
    review.add_argument(
        "--viewer-url", default="", metavar="URL",
        help="address of your viewer or PACS, with {StudyInstanceUID}, {SeriesInstanceUID} (of T2) or {PatientID}: the"
        " pages link each disc there, and stay in COHORT/private",
    )  # fmt: skip
    review.add_argument("--out", type=Path, metavar="DIR", help="new folder for the readers; may be sent")


def run(options: argparse.Namespace) -> int:
    """`modic review`."""
    if options.arbitrate:
        return _arbitrate(options)
    if options.again:
        return _again(options)
    from modic.reader_study.sample import review

    chosen = options.next_discs is not None
    by = [name.strip() for name in (options.by or ("grade" if chosen else "level,grade")).split(",") if name.strip()]
    if options.plan:
        return _plan(options, by)
    drawn = review(
        options.cohort, options.out, sample=options.next_discs if chosen else options.sample, by=by,
        readers=options.readers, seed=options.seed, visits=options.visits, chosen=chosen, endplates=options.endplates,
        repeats=options.repeats, viewer_url=options.viewer_url,
    )  # fmt: skip
    print(f"{'stratum':30} {drawn.unit + 's':>8}  drawn")
    for name, (n, n_drawn) in drawn.strata.items():
        show(f"{name[:30]:30} {n:8} {n_drawn:6}")
    print(f"{counted(drawn.discs, 'disc')} to read")
    if drawn.without_pictures:
        print(f"{drawn.without_pictures} graded discs have no pictures and could not be drawn")
    show(f"sample {drawn.sample_id}: {', '.join(map(str, drawn.pages))}")
    csv = " ".join(f"readings-{page.stem}.csv" for page in drawn.pages)
    show("each reader opens a page in a browser and exports its CSV; then `modic validate`, or:")
    show(f"modic adapt {options.cohort} --labels {csv} --out site")
    return OK


def _again(options: argparse.Namespace) -> int:
    """`modic review --again`."""
    from modic.reader_study.sample import review_again

    pages, n = review_again(
        options.cohort, options.out, options.again, readers=options.readers, first=options.first_reader,
        seed=options.seed, endplates=options.endplates, repeats=options.repeats, viewer_url=options.viewer_url,
    )  # fmt: skip
    show(f"{counted(n, 'disc')} of sample {options.again}: {', '.join(map(str, pages))}")
    return OK


def _plan(options: argparse.Namespace, by: list[str]) -> int:
    """`modic review --plan`."""
    from modic.reader_study.readings_needed import readings_needed

    show(readings_needed(options.cohort, by=by, width=options.width, visits=options.visits).table().text())
    print(
        "least if the grader's probabilities hold here, most if they tell nothing within a stratum; both are guesses"
        " from probabilities that no reader has checked: validate a first part, then plan again"
    )
    return OK


def _arbitrate(options: argparse.Namespace) -> int:
    from modic.reader_study.arbitration import arbitrate

    page, n, n_both = arbitrate(
        options.cohort, options.arbitrate, options.out, viewer_url=options.viewer_url, seed=options.seed
    )
    show(f"readers disagree on {n} of {n_both} discs that several read: {page}")
    return OK
