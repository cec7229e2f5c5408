"""`modic prune`."""

import argparse
from typing import Any

from modic.cli.options import COHORT, OK, add_command, show
from modic.text import plural


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic prune lumbar-2026 --dry-run
  modic prune lumbar-2026 --days 90

Removes old reports, logs, and pictures and shards of gradings that later ones replaced. What the current tables, their
report or a later run need stays: nothing is graded again for it. Tables of earlier runs go by themselves
(`keep_tables_days` in cohort.toml). Exit codes: 0 done, 2 wrong usage, or a run is going on."""
    command = add_command(commands, "prune", run, "remove what the tables of a cohort no longer need", examples)
    command.add_argument("cohort", **COHORT)
    command.add_argument(
        "--days", type=float, default=30.0, metavar="N", help="only of runs older than N days (default: 30)"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    command.add_argument(
        "--prefect",
        action="store_true",
        help="also the temporary Prefect server's records of all runs, which nothing depends on",
    )


def run(options: argparse.Namespace) -> int:
    """`modic prune`."""
    from collections import Counter

    from modic.cohort import open_cohort
    from modic.errors import UsageError
    from modic.run.estimate import megabytes
    from modic.run.prune import prune, superfluous

    if not options.days >= 0:
        raise UsageError(f"--days must be 0 or more, not {options.days:g}")
    cohort = open_cohort(options.cohort)
    with cohort.lock():
        things = superfluous(cohort, days=options.days, prefect=options.prefect)
        if not options.dry_run:
            prune(things)
    sizes = Counter[str]()
    for thing in things:
        sizes[thing.kind] += thing.bytes
    counts = Counter(thing.kind for thing in things)
    verb = "would go" if options.dry_run else "removed"
    for kind, n in counts.items():
        show(f"{kind}: {n} {verb}, {megabytes(sizes[kind])}")
    if not things:
        show(f"nothing to remove of runs older than {options.days:g} {plural(options.days, 'day')}")
    return OK
