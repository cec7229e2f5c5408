"""How a command is added to the command line."""

import argparse
from pathlib import Path
from typing import Any

COHORT: dict[str, Any] = {
    "type": Path, "metavar": "COHORT", "help": "folder of a cohort: what `modic grade` was given as --out",
}  # fmt: skip
"""The argument of every command that reads a cohort."""

OK, RUN_FAILED, WRONG_USAGE, SOME_STUDIES_FAILED = 0, 1, 2, 3


def add_command(
    commands: Any, name: str, run: Any, summary: str, examples: str, **more: Any
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    added.set_defaults(command=run)
    return added


def add_cluster_arguments(command: argparse.ArgumentParser, work: str) -> None:
    """`--cluster` and `--device`, of a command whose `work` ("studies are graded") a cluster does."""
    command.add_argument(
        "--cluster",
        default="",
        metavar="FILE",
        help=f"where {work}, as the files of deployments/clusters (default: here, one process a GPU or else a core)",
    )
    command.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto (default): a GPU where there is one"
    )


def add_models(command: argparse.ArgumentParser, verb: str, modules: dict[str, Any], about: dict[str, str]) -> None:
    """`modic VERB MODEL`, with the options and the work of the model's module; `about`: its examples and more."""
    models = command.add_subparsers(metavar="MODEL", required=True)
    for name, module in modules.items():
        module.add_arguments(add_command(models, name, module.run, f"{verb} the {name}", about[name]))
