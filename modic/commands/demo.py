"""`modic demo`."""

import argparse
from pathlib import Path
from typing import Any

from modic.commands.adding import add_command
from modic.commands.check import check
from modic.commands.grade import grade


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic demo
  modic demo --out demo --patients 20

No network, server, GPU or data is needed; six patients take about a minute on two cores. The archive holds synthetic
spines as five manufacturers would write them, with missing contrasts and broken files; the truth lies beside it."""
    demo = add_command(
        commands, "demo", run, "make a synthetic archive, grade it, check it and write its report", examples
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="new or earlier folder (default: demo)"
    )
    demo.add_argument("--patients", type=int, default=6, metavar="N", help="synthetic patients (default: 6)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same archive (default: 0)")


def run(options: argparse.Namespace) -> int:
    """`modic demo`."""
    from modic.demo import make_archive, show

    archive, cohort = make_archive(options.out, patients=options.patients, seed=options.seed)
    graded, sound = grade(str(archive), str(cohort)), check(cohort)
    show(options.out)
    return graded or sound
