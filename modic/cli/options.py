"""Exit codes, and what several commands add to the command line."""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from modic.text import printable

COHORT: dict[str, Any] = {
    "type": Path, "metavar": "COHORT", "help": "folder of a cohort: what `modic grade` was given as --out",
}  # fmt: skip
"""The `COHORT` argument of every command that reads a cohort."""

OK, RUN_FAILED, WRONG_USAGE, SOME_STUDIES_FAILED = 0, 1, 2, 3
"""Exit codes (modic/cli/main.py)."""


def show(text: object) -> None:
    """Print what a table or a file says, whatever characters it holds."""
    print(printable(str(text)))


class Parser(argparse.ArgumentParser):
    """Tells of an unknown option by its name, before it misses the one that was meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Raises SystemExit as argparse does."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is None:
            known = list(self._option_string_actions)
            for word in words[: words.index("--") if "--" in words else None]:
                name = word.partition("=")[0]
                if name.startswith("--") and not any(option.startswith(name) for option in known):
                    near = difflib.get_close_matches(name, known, 1)
                    self.error(f"there is no option {name}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().parse_known_args(words, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises ArgumentError, which names the choice that is nearest to another word."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(map(str, action.choices or ()))}"
            raise argparse.ArgumentError(action, f"there is no {value}{meant}") from error


def add_command(
    commands: Any, name: str, run: Any, summary: str, examples: str, **more: Any
) -> argparse.ArgumentParser:
    """The parser of a new command.

    Args:
        commands: what `add_subparsers` returned.
        name: the word that the user types.
        run: from the parsed options to the exit code; None if subcommands do the work.
        summary: one line for `--help`, in lower case and without a full stop.
        examples: text below the options.
        more: further arguments of `add_parser`.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    command.set_defaults(command=run)
    return command


def add_cluster_arguments(command: argparse.ArgumentParser, work: str, default: str) -> None:
    """Add `--cluster` and `--device` to a command.

    Args:
        command: its parser.
        work: what a cluster does: "studies are graded".
        default: how many processes of this machine work without a file, in words.
    """
    command.add_argument(
        "--cluster",
        default="",
        metavar="FILE",
        help=f"where {work}: a file such as those of deployments/clusters (default: this machine, {default})",
    )
    command.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto (default): a GPU if there is one"
    )


def add_models(command: argparse.ArgumentParser, verb: str, modules: dict[str, Any], about: dict[str, str]) -> None:
    """Add `modic VERB MODEL` for each model.

    Args:
        command: the parser of `modic VERB`.
        verb: train or evaluate.
        modules: model → module with `add_arguments(parser)` and `run(options)`.
        about: model → examples and explanations below its options.
    """
    models = command.add_subparsers(metavar="MODEL", required=True)
    for name, module in modules.items():
        module.add_arguments(add_command(models, name, module.run, f"{verb} the {name} network", about[name]))
