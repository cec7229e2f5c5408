"""`modic query`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from modic.commands.adding import OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic query lumbar-2026 "SELECT level, mc, count(*) FROM levels GROUP BY ALL ORDER BY ALL"
  modic query lumbar-2026 "FROM studies WHERE status = 'failed'" --format csv > failed.csv

Tables: studies, series, levels, runs (the last finished run). Views: SHOW TABLES lists them."""
    query = add_command(commands, "query", run, "ask a cohort a question in SQL (DuckDB)", examples)
    query.add_argument("cohort", type=Path, metavar="COHORT")
    query.add_argument("sql", metavar="SQL", help="one DuckDB query; - reads it from standard input")
    query.add_argument("--format", default="table", choices=("table", "csv", "json", "parquet"), help="default: table")


def run(options: argparse.Namespace) -> int:
    """`modic query`."""
    from modic.query import print_query

    sql = sys.stdin.read() if options.sql == "-" else options.sql
    print_query(options.cohort, sql, format=options.format, out=sys.stdout)
    return OK
