"""`modic serve`."""

import argparse
import signal
import sys
from typing import Any

from modic.cli.options import COHORT, OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic serve lumbar-2026
  modic serve lumbar-2026 --port 8080         # there
  ssh -L 8080:127.0.0.1:8080 SERVER           # at your desk; then open the address that the other one printed

Shows the newest report and its pictures in a browser, until Ctrl-C. It is only read, and listens on loopback only; the
address holds a secret, so that other users of the machine see nothing. Give it to nobody: the pictures are images of
patients. Exit codes: 0 after Ctrl-C, 2 if the cohort has no report or the port is taken."""
    command = add_command(commands, "serve", run, "show the report of a cohort in a browser, also from afar", examples)
    command.add_argument("cohort", **COHORT)
    command.add_argument("--port", type=int, default=0, metavar="N", help="port on loopback (default: a free one)")


def run(options: argparse.Namespace) -> int:
    """`modic serve`."""
    from modic.errors import UsageError
    from modic.report.serve import Server
    from modic.tables.query import published

    published(options.cohort)
    if not (options.cohort / "report.html").is_file():
        raise UsageError(f"{options.cohort} has no report; `modic report {options.cohort}` writes it")
    try:
        server = Server(options.cohort, options.port)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it must be from 0 to 65535"
        raise UsageError(f"port {options.port} cannot be used: {why}") from error
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(server.url, flush=True)
    print("Ctrl-C ends it", file=sys.stderr)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return OK
    return OK
