"""`modic COMMAND`. Slow imports are inside the command that needs them, so that `--help` is quick.

Exit codes are those of README.md; `modic grade --help` tells what each means of a run.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from modic import __doc__ as about
from modic.cli.options import RUN_FAILED, WRONG_USAGE, Parser
from modic.cli.process import complete_process
from modic.errors import ModicError, UsageError
from modic.text import one_line

COMMANDS = (
    "demo",
    "grade",
    "status",
    "find",
    "files",
    "query",
    "check",
    "report",
    "serve",
    "prune",
    "dictionary",
    "export",
    "link",
    "compare",
    "review",
    "validate",
    "adapt",
    "train",
    "evaluate",
    "study",
    "cite",
)
"""The commands in the order of `--help`; each is a module of modic.cli."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (argparse itself exits with 2)."""
    complete_process()
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(words[0] if words else "").parse_args(words)
    try:
        return int(options.command(options))
    except UsageError as error:
        print(f"modic: {one_line(str(error))}", file=sys.stderr)
        return WRONG_USAGE
    except ModicError as error:
        print(f"modic: the run failed: {one_line(str(error))}", file=sys.stderr)
        return RUN_FAILED
    except KeyboardInterrupt:
        print("modic: stopped; what is finished is kept", file=sys.stderr)
        return RUN_FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader closed the pipe: `| head`
        return RUN_FAILED
    except MemoryError:
        print("modic: the run failed: out of memory; end other programs or lift `ulimit -v`", file=sys.stderr)
        return RUN_FAILED
    except PermissionError:
        print(
            "modic: the run failed: Permission denied: a file or folder belongs to somebody else; only a cohort's owner"
            " may write in it",
            file=sys.stderr,
        )
        return RUN_FAILED
    except OSError as error:  # without the file's name, which may be a patient's
        print(f"modic: the run failed: {error.strerror or type(error).__name__}", file=sys.stderr)
        return RUN_FAILED


def parser(wanted: str = "") -> argparse.ArgumentParser:
    """The parser of all commands. Options that need a slow import are added to the command `wanted` alone."""
    top = Parser(prog="modic", description=about, epilog="modic COMMAND --help explains a command. Research use only.")
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"modic.cli.{name}").add(commands, name == wanted)
    return top


class _Version(argparse.Action):
    """`--version`: looks the version up only when the user asks for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"modic {version('modic')}")
        parser.exit()
