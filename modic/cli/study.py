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

Four normalizations × 10 repeats × 5 folds by patient: the paper's experiment on your labels. A study that was killed
goes on from its finished folds when the same command is given again."""
    study = add_command(commands, "study", None, "repeat the paper's comparison of normalizations", examples)
    if not wanted:
        return
    kinds = study.add_subparsers(metavar="STUDY", required=True)
    _add_normalization(kinds)
    report = add_command(
        kinds, "report", write_report, "write tables and report of the folds that are finished",
        "  modic study report study",
    )  # fmt: skip
    report.add_argument("study", type=Path, metavar="STUDY", help="what `modic study normalization` was given as --out")
    _add_simulate(kinds)


def _add_normalization(kinds: Any) -> None:
    from modic.experiment.design import PROFILES
    from modic.train.data import DATA_HELP
    from modic.train.options import add_data_arguments, widths

    examples = f"""\
  modic study normalization --data synthetic=912 --out study --profile quick
  modic study normalization --data archive=/archive/lumbar --labels readings.csv --out study

Prints what it does, and at the end the report's path. Go on after a stop with the same command.

{DATA_HELP}

for a study also:
  synthetic=N         N synthetic patients with the paper's share of each type; 912 as many as the paper's"""
    parser = add_command(
        kinds, "normalization", run, "train and predict every fold, compare normalizations, write the report", examples
    )
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="STUDY", help="new folder, or of an earlier run")
    parser.add_argument(
        "--profile",
        default="full",
        choices=tuple(PROFILES),
        help="quick: under ten minutes on two cores (default: full)",
    )
    add_cluster_arguments(parser, "folds are trained")
    parser.add_argument(
        "--normalizations",
        type=lambda text: tuple(text.split(",")),
        metavar="A,B,…",
        help="two or more of none, standardize, clahe, gamma (default: all)",
    )
    for name, said in (
        ("repeats", "of all folds"), ("folds", "parts that the patients are cut into"),
        ("seed", "of folds, weights and batches"), ("region-size", "side of a region, px"),
        ("slices", "of each region"), ("epochs", "at most"),
        ("epoch-steps", "batches an epoch; 0: every region once"), ("batch", "regions a batch"),
        ("patience", "epochs without a better loss before a training stops"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{said} (default: the profile's)")
    parser.add_argument(
        "--depth", type=int, choices=(10, 18, 34, 50), help="of each 3D ResNet (default: the profile's)"
    )
    parser.add_argument(
        "--widths", type=widths, metavar="W,W,W,W", help="channels of its four stages (default: the profile's)"
    )


def _add_simulate(kinds: Any) -> None:
    from modic.experiment.simulation import Simulation

    examples = """\
  modic study simulate --out study

Makes studies of the paper's design in which no normalization is better than another, and counts how often each
statistical test finds a difference all the same."""
    parser = add_command(
        kinds, "simulate", simulate, "count how often each test finds a difference where there is none", examples
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for simulation.parquet; a study's own: its report shows it",
    )
    for name, said in (
        ("simulations", "how many"), ("patients", "of each cohort"), ("repeats", "of all folds"), ("folds", "a repeat"),
        ("features", "that the classifier sees; two carry signal"), ("seed", "same seed, same numbers"),
    ):  # fmt: skip
        default = getattr(Simulation(), name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{said} (default: {default})")


def run(options: argparse.Namespace) -> int:
    """`modic study normalization`."""
    from flows.clusters import read_cluster
    from flows.prefect_server import prefect_api
    from modic.experiment.design import as_plain, design_from
    from modic.experiment.folder import locked, prepare

    given = {key: value for key, value in vars(options).items() if key not in ("command", "cluster")}
    design = design_from(given)
    read_cluster(Path(options.cluster) if options.cluster else None, design.device)
    with locked(design):  # what is wrong with the data is said before a server is started
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
    asked = simulation.Simulation(**{name: getattr(options, name) for name in names})

    def tell(done: int) -> None:
        if done % 50 == 0:
            print(f"{done} of {asked.simulations} simulations", file=sys.stderr, flush=True)

    rows = simulation.simulate(asked, tell=tell)
    path = write_rows(options.out / "simulation.parquet", rows, simulation.SIMULATIONS)
    print(f"{simulation.INTRODUCTION}\n\n{simulation_table(rows).text()}\n\neach simulation: {path}")
    return OK


def _say(line: str) -> None:
    print(line, flush=True)
