"""`modic adapt`."""

import argparse
from pathlib import Path
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic adapt lumbar-2026 --labels readings-reader-1.csv --out site      # what the page of modic review exports
  modic grade /archive/lumbar --out lumbar-2026 --models site

The second grades all studies again from what was kept of them, in minutes. site/report.html shows the shipped grader
and the site's on patients that neither was fitted to, says what so many readings can promise, and whether the shipped
grader is better left alone (then there is no site/classifier.json).
"""
    adapt = add_command(commands, "adapt", run, "fit the grader to the readings of a site", examples)
    adapt.add_argument("cohort", **COHORT)
    adapt.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="CSV files with one row for each reading of a disc, as for `modic validate`",
    )
    adapt.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the grader: new, or of an earlier adapt"
    )
    adapt.add_argument(
        "--classifier",
        default="",
        metavar="NAME",
        help="what is adapted and has graded the cohort: `paper`, or a path as in cohort.toml (default: as the"
        " cohort remembers)",
    )


def run(options: argparse.Namespace) -> int:
    """`modic adapt`."""
    from modic.adapt.site import adapt_site, facts

    site = adapt_site(options.cohort, options.labels, options.out, classifier=options.classifier)
    show("\n".join(facts(site)))
    if site.adapted.unchanged:
        show(f"\nwritten: {options.out}/report.html; nothing to change")
    else:
        show(f"\nwritten: {options.out}/report.html, classifier.json")
        show(f"to grade with it: modic grade … --models {options.out}")
    return OK
