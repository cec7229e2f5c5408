"""The report of a cohort's last run: one HTML page that needs no other file, and a methods paragraph for a paper.

Every number comes from the published tables, through the views of sql/views and the queries of sql/report.
"""

from pathlib import Path
from typing import Any

import duckdb

from modic.cases.outliers import gather_cases
from modic.cases.viewer import viewer
from modic.cohort import Cohort
from modic.errors import UsageError
from modic.files import make_folder, read_json, write_whole
from modic.grades import CLASSES
from modic.report.flow_diagram import archives, lay_out, steps
from modic.report.front_page import answers
from modic.report.local_validation import local_validation
from modic.statistics.intervals import wilson
from modic.tables.query import connect, rows_of, statements
from modic.templates.render import template
from modic.versions import versions

Row = dict[str, Any]
LISTED = 100
"""Studies that a list of the page names; the query below the list gives all."""

GRADED = tuple(f"mc{k}" for k in range(CLASSES))
OUTCOMES = (*GRADED, "abstained", "not_found", "unreadable")
"""What becomes of a level of a graded study, as the columns n_… of the view prevalence_by_level name it."""

LISTS = {
    "mc1": "suspected_mc1",
    "measured": "contradicting_measurements",
    "failed": "failed_studies",
    "uncertain": "uncertain_numbering",
    "transitional": "suspected_transitional",
    "slices": "studies_with_disagreeing_slices",
    "excluded": "excluded_studies",
}
"""Lists of studies to look at → the view that each shows."""


NEWEST = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>modic: newest report</title>
<meta http-equiv="refresh" content="0; url={page}"></head>
<body><p><a href="{page}">The newest report</a></p></body></html>
"""
"""`report.html` of the cohort, whose address stays. A link would not do: pictures are looked for beside the page."""


def write_report(cohort_root: Path, run_id: str | None = None) -> Path:
    """Write `runs/<run_id>/report.html` and `methods.md` of the last finished run; returns the path of the page.

    `report.html` in the cohort's folder then leads to it.

    Raises UsageError if `cohort_root` is no cohort, if no run has finished, or if `run_id` is not the last run: the
    tables are those of the last run, and a page about another run would show numbers that are not its own.
    """
    facts = gather(cohort_root)
    last = facts["run"]["run_id"]
    if run_id not in (None, last):
        raise UsageError(f"{cohort_root} holds the tables of run {last}, not of {run_id}: only the last has a report")
    folder = make_folder(Cohort(cohort_root).run(last))
    facts["methods"] = methods_text(facts)
    write_whole(folder / "methods.md", facts["methods"] + "\n")
    page = write_whole(folder / "report.html", template("report.html").render(facts))
    write_whole(cohort_root / "report.html", NEWEST.format(page=page.relative_to(cohort_root).as_posix()))
    return page


def gather(cohort_root: Path) -> Row:
    """Everything that the page shows, read from one state of the tables.

    Raises UsageError as `modic.tables.query.connect` does, and if no run has finished.
    """
    with connect(cohort_root) as connection:
        runs = rows_of(connection, "FROM latest_run")
        if not runs:
            raise UsageError(f"no run has finished in {cohort_root} yet")
        patients = rows_of(connection, statements("report")["patients"])[0]
        models = rows_of(connection, statements("report")["models"])
        return {
            "run": runs[0],
            "drift": _drift(cohort_root, runs[0]["run_id"]),
            "patients": patients["n_patients"],
            "patients_graded": patients["n_patients_graded"],
            "models": models,
            "local": local_validation(cohort_root),
            "normalizations": sorted({model["normalization"] or "none" for model in models}) or ["none"],
            "versions": versions(),
            **_tables(connection, patients["n_patients"]),
            **answers(cohort_root),
            **viewer(gather_cases(connection, cohort_root)),
        }


def _drift(cohort_root: Path, run_id: str) -> str:
    """What looked unlike that which the site's own grader was adapted to (modic/run/drift.py), in that run."""
    manifest = read_json(Cohort(cohort_root).run(run_id) / "manifest.json") or {}
    return str(manifest.get("drift", ""))


def _tables(connection: duckdb.DuckDBPyConnection, patients: int) -> Row:
    """The parts of the page that each show one view."""
    flow = rows_of(connection, "FROM strobe_flow")
    return {
        "chart": lay_out(steps(flow, patients)),
        "archives": archives(flow, "studies"),
        "files": sum(row["n"] for row in flow if (row["unit"], row["outcome"]) == ("files", "all")),
        "files_rejected": sum(row["n"] for row in flow if (row["unit"], row["outcome"]) == ("files", "rejected")),
        "reasons": rows_of(connection, "FROM reasons"),
        "abstentions": rows_of(connection, statements("report")["abstentions"]),
        "risks": rows_of(connection, "FROM yield_by_alpha WHERE expected_wrong IS NOT NULL"),
        "prevalence": [_with_intervals(row) for row in rows_of(connection, "FROM prevalence_by_level")],
        "scanners": rows_of(connection, "FROM scanners"),
        "lists": {name: _listed(connection, view) for name, view in LISTS.items()},
    }


def _with_intervals(level: Row) -> Row:
    """A row of prevalence_by_level with Wilson intervals and the bars of its chart: (outcome, start, share), 0-1."""
    decided = sum(level[f"n_{grade}"] for grade in GRADED)
    start, bars = 0.0, []
    for outcome in OUTCOMES:
        share = level[f"n_{outcome}"] / level["n_patients"]
        bars.append((outcome, start, share))
        start += share
    intervals = {f"interval_{grade}": wilson(level[f"n_{grade}"], decided) if decided else None for grade in GRADED}
    return level | intervals | {"n_decided": decided, "bars": bars}


def _listed(connection: duckdb.DuckDBPyConnection, view: str) -> Row:
    rows = rows_of(connection, f"FROM {view} LIMIT {LISTED + 1}")
    n = len(rows) if len(rows) <= LISTED else rows_of(connection, f"SELECT count(*) AS n FROM {view}")[0]["n"]
    return {"n": n, "rows": rows[:LISTED], "view": view}


def methods_text(facts: Row) -> str:
    """A paragraph for the methods section of a paper, in plain text; `facts` as `gather` returns them."""
    text: str = template("methods.md").render(facts | {"normalization": " or ".join(facts["normalizations"])})
    return " ".join(text.split())
