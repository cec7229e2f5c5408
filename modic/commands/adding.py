"""How a command is added to the command line."""

import argparse
from typing import Any

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


def add_models(command: argparse.ArgumentParser, verb: str, modules: dict[str, Any]) -> None:
    """`modic VERB MODEL`, with the options and the work of the model's module."""
    models = command.add_subparsers(metavar="MODEL", required=True)
    for name, module in modules.items():
        model = models.add_parser(name, help=f"{verb} the {name}", description=module.__doc__)
        module.add_arguments(model)
        model.set_defaults(command=module.run)
