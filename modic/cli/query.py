"""`modic query`."""

import argparse
import sys
from typing import Any

from modic.cli.options import COHORT, OK, add_command


def add(commands: Any, wanted: bool) -> None:
    examples = """\
  modic query lumbar-2026 "SELECT level, mc, count(*) FROM levels GROUP BY ALL ORDER BY ALL"
  modic query lumbar-2026 "FROM studies WHERE status = 'failed'" --format csv > failed.csv
  modic query lumbar-2026 "FROM prevalence_by_level"
  modic query lumbar-2026 - < sql/cohort/change_between_studies.sql
  modic query lumbar-2026 "SHOW TABLES"                       # all tables and views

Tables: studies, series, levels, runs, as the last finished run published them; `modic dictionary` explains each
column. Views are ready-made answers, such as strobe_flow, prevalence_by_level, patients, uncertain_numbering."""
    query = add_command(commands, "query", run, "ask a cohort a question in SQL (DuckDB)", examples)
    query.add_argument("cohort", **COHORT)
    query.add_argument(
        "sql", metavar="SQL", help="DuckDB query, or several with ; between them; - reads from standard input"
    )
    query.add_argument(
        "--allow-files", action="store_true",
        help="let the query read and write files and load extensions as you (default: it reads the tables alone)",
    )  # fmt: skip
    query.add_argument(
        "--format",
        default="table",
        choices=("table", "csv", "json", "parquet"),
        help="how the answer is printed (default: table)",
    )


def run(options: argparse.Namespace) -> int:
    """`modic query`."""
    from modic.tables.query import print_query

    sql = sys.stdin.read() if options.sql == "-" else options.sql
    print_query(options.cohort, sql, format=options.format, files=options.allow_files, out=sys.stdout)
    return OK
