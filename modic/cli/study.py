"""`modic study`."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from modic.cli.options import OK, add_cluster_arguments, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic study normalization --data synthetic=912 --out study --profile quick
  modic study normalization --data archive=/archive/lumbar --labels readings.csv --out study
  modic study report study
  modic study simulate --out study

Four normalizations × 10 repeats × 5 folds by patient: the paper's experiment on your labels. After a study was killed,
the same command goes on from its finished folds."""
    study = add_command(commands, "study", None, "repeat the paper's comparison of normalizations", examples)
    if not wanted:
        return
    kinds = study.add_subparsers(metavar="STUDY", required=True)
    _add_normalization(kinds)
    report = add_command(
        kinds, "report", write_report, "write tables and report of the finished folds",
        "  modic study report study",
    )  # fmt: skip
    report.add_argument(
        "study", type=Path, metavar="STUDY", help="folder of the study: the --out of `modic study normalization`"
    )
    _add_simulate(kinds)


def _add_normalization(kinds: Any) -> None:
    from modic.experiment.design import PROFILES
    from modic.train.data import DATA_HELP
    from modic.train.options import add_data_arguments, widths

    examples = f"""\
  modic study normalization --data synthetic=912 --out study --profile quick
  modic study normalization --data archive=/archive/lumbar --labels readings.csv --out study

Prints its progress, and at the end the path of the report. After a stop, the same command goes on.

{DATA_HELP}

for a study also:
  synthetic=N         N synthetic patients with the paper's share of each type; the paper had 912"""
    parser = add_command(
        kinds, "normalization", run, "train and predict every fold, compare normalizations, write the report", examples
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="STUDY", help="a new folder, or that of an earlier run"
    )
    parser.add_argument(
        "--profile",
        default="full",
        choices=tuple(PROFILES),
        help="quick: under ten minutes on two cores (default: full)",
    )
    add_cluster_arguments(parser, "folds are trained", "one process for each GPU, or for each core if there is none")
    parser.add_argument(
        "--normalizations",
        type=lambda text: tuple(text.split(",")),
        metavar="A,B,…",
        help="two or more of none, standardize, clahe, gamma (default: all)",
    )
    for name, meaning in (
        ("repeats", "divisions of the patients into folds"), ("folds", "parts of each division"),
        ("seed", "the same seed gives the same folds and weights"), ("region-size", "side of a region, px"),
        ("slices", "slices of a region"), ("epochs", "most epochs of a training"),
        ("epoch-steps", "batches an epoch; 0: every region once"), ("batch", "regions a batch"),
        ("patience", "epochs without a better loss before a training stops"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{meaning} (default: the profile's)")
    parser.add_argument(
        "--depth", type=int, choices=(10, 18, 34, 50), help="layers of each 3D ResNet (default: the profile's)"
    )
    parser.add_argument(
        "--widths",
        type=widths,
        metavar="W,W,W,W",
        help="channels of the four stages of each 3D ResNet (default: the profile's)",
    )


def _add_simulate(kinds: Any) -> None:
    from modic.experiment.simulation import Simulation

    examples = """\
  modic study simulate --out study

Makes studies of the paper's design in which no normalization is better than another, and counts how often each
statistical test finds a difference all the same."""
    parser = add_command(
        kinds, "simulate", simulate, "count how often each test finds a difference although there is none", examples
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for simulation.parquet; if it is that of a study, its report shows the simulation",
    )
    for name, meaning in (
        ("simulations", "studies to simulate"), ("patients", "patients of each study"),
        ("repeats", "divisions of the patients into folds"), ("folds", "parts of each division"),
        ("features", "inputs of the classifier; two carry signal"), ("seed", "the same seed gives the same numbers"),
    ):  # fmt: skip
        default = getattr(Simulation(), name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})")


def run(options: argparse.Namespace) -> int:
    """`modic study normalization`."""
    from flows.clusters import read_cluster
    from flows.prefect_server import prefect_api
    from modic.cohort import Cohort, nothing_left
    from modic.experiment.design import as_plain, design_from
    from modic.experiment.folder import locked, prepare

    design = design_from({key: value for key, value in vars(options).items() if key not in ("command", "cluster")})
    read_cluster(Path(options.cluster) if options.cluster else None, design.device)
    alone = Cohort(design.out).lock
    with nothing_left(design.out, alone=alone), locked(design):  # reports wrong data before a server is started
        prepare(design, say=_say)
    if short := design.distance():
        print(f"not the full design: {'; '.join(short)}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with prefect_api(design.out / "private" / "prefect") as ready:
        from flows.study import normalization_study

        ready()
        outcome = normalization_study(as_plain(design), cluster=options.cluster)
    print(f"report: {outcome['report']}")
    return OK


def write_report(options: argparse.Namespace) -> int:
    """`modic study report`."""
    from modic.experiment.report import write_study

    outcome = write_study(options.study)
    print("\n".join((*outcome.warnings, outcome.answer, f"report: {outcome.page}")))
    return OK


def simulate(options: argparse.Namespace) -> int:
    """`modic study simulate`."""
    from modic.experiment import simulation
    from modic.experiment.report import simulation_table
    from modic.tables.described import write_rows

    names = simulation.Simulation.__dataclass_fields__
    settings = simulation.Simulation(**{name: getattr(options, name) for name in names})

    def tell(done: int) -> None:
        if done % 50 == 0:
            print(f"{done} of {settings.simulations} simulations", file=sys.stderr, flush=True)

    rows = simulation.simulate(settings, tell=tell)
    path = write_rows(options.out / "simulation.parquet", rows, simulation.SIMULATIONS)
    print(f"{simulation.INTRODUCTION}\n\n{simulation_table(rows).text()}\n\neach simulation: {path}")
    return OK


def _say(line: str) -> None:
    print(line, flush=True)
