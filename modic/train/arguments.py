"""Options that several commands of training and evaluation share."""

import argparse
from collections.abc import Iterable


def add_numbers(parser: argparse.ArgumentParser, numbers: Iterable[tuple[str, float, str]]) -> None:
    """One option for each (name, default, what it is); the default's type is the option's."""
    for name, default, said in numbers:
        parser.add_argument(
            f"--{name}", type=type(default), default=default, metavar="N", help=f"{said} (default: {default:g})"
        )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """How a training goes on and ends, and where it runs (modic/train/loop.py)."""
    add_numbers(parser, (("learning-rate", 1e-3, "of the optimizer"), ("patience", 5, "epochs without a better loss")))
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="N", help="stop after so many minutes (default: when it is done)"
    )
    add_numbers(parser, [("seed", 0, "another seed, another training")])
    add_machine_arguments(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="processes that make batches ahead (default: one a core beside a GPU, none on a CPU)",
    )  # fmt: skip


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Where networks run."""
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto (default): a GPU where there is one"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")
