"""The report of a cohort's last run: one HTML page that needs nothing else, and a methods paragraph for a paper.

Everything in it comes from the published tables, through the views of sql/views.
"""

from pathlib import Path
from typing import Any

from modic.cases.outliers import DISAGREEMENT, LEVEL_QUESTION, QUESTION, gather_cases
from modic.cases.viewer import viewer
from modic.errors import UsageError
from modic.files import write_whole
from modic.report.flow_diagram import lay_out, steps
from modic.report.front_page import answers
from modic.statistics.intervals import wilson
from modic.tables.query import connect, rows_of
from modic.templates.render import template
from modic.versions import versions

LISTED = 100
"""Studies that a list names; the query below the list gives all."""

PARTS = ("mc0", "mc1", "mc2", "abstained", "not_found", "unreadable")
LISTS = {
    "failed": "SELECT study_key, reason, detail FROM studies WHERE status = 'failed' ORDER BY reason, study_key",
    "uncertain": "SELECT study_key, level_numbering_probability FROM uncertain_numbering",
    "abstained": "SELECT study_key, string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels FROM levels WHERE abstained"
    " GROUP BY study_key ORDER BY count(*) DESC, study_key",
    "slices": "SELECT study_key, string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels,"
    f" max(slice_disagreement) AS largest FROM levels WHERE slice_disagreement >= {DISAGREEMENT} GROUP BY study_key"
    " ORDER BY largest DESC, study_key",
    "excluded": "SELECT study_key, reason, detail FROM studies WHERE status = 'excluded' ORDER BY reason, study_key",
}


def write_report(cohort_root: Path, run_id: str | None = None) -> Path:
    """Write `runs/<run_id>/report.html` and `methods.md` of the last finished run; returns the path of the page.

    Raises UsageError where `cohort_root` is no cohort, no run has finished, or `run_id` is not the last: the tables
    are those of the last run, and a page about another one would show numbers that are not its own.
    """
    facts = gather(cohort_root)
    last = facts["run"]["run_id"]
    if run_id not in (None, last):
        raise UsageError(f"{cohort_root} shows run {last}, not {run_id}; a report is written of the last finished run")
    folder = cohort_root / "runs" / last
    folder.mkdir(parents=True, exist_ok=True)
    facts["methods"] = methods_text(facts)
    write_whole(folder / "methods.md", facts["methods"] + "\n")
    return write_whole(folder / "report.html", template("report.html").render(facts))


def gather(cohort_root: Path) -> dict[str, Any]:
    """Everything the page shows, read from one state of the tables. Raises UsageError as
    `modic.tables.query.connect`."""
    with connect(cohort_root) as connection:

        def ask(sql: str) -> list[dict[str, Any]]:
            return rows_of(connection, sql)

        runs = ask("FROM latest_run")
        if not runs:
            raise UsageError(f"no run has finished in {cohort_root} yet")
        patients = ask("SELECT count(*) AS n FROM patients")[0]["n"]
        return {
            "run": runs[0],
            "patients": patients,
            "patients_graded": ask("SELECT count(*) AS n FROM first_graded_studies")[0]["n"],
            "chart": lay_out(steps(ask("FROM strobe_flow"), patients)),
            "reasons": ask("FROM reasons"),
            "prevalence": [_with_intervals(row) for row in ask("FROM prevalence_by_level")],
            "scanners": ask("FROM scanners"),
            "lists": {name: _listed(ask(sql), sql) for name, sql in LISTS.items()},
            "normalizations": [row["n"] for row in ask("SELECT DISTINCT normalization AS n FROM levels ORDER BY n")],
            "models": ask("SELECT detector_id, classifier_id, normalization, count(DISTINCT study_key) AS n_studies"
                          " FROM levels GROUP BY ALL ORDER BY n_studies DESC, detector_id, classifier_id"),
            "versions": versions(),
            **answers(cohort_root),
            **viewer(gather_cases(cohort_root, ask(QUESTION), ask(LEVEL_QUESTION))),
        }  # fmt: skip


def _with_intervals(row: dict[str, Any]) -> dict[str, Any]:
    decided = row["n_mc0"] + row["n_mc1"] + row["n_mc2"]
    start, bars = 0.0, []
    for part in PARTS:
        share = row[f"n_{part}"] / row["n_patients"]
        bars.append((part, start, share))
        start += share
    intervals = {f"interval_mc{mc}": wilson(row[f"n_mc{mc}"], decided) if decided else None for mc in (1, 2)}
    return row | intervals | {"n_decided": decided, "bars": bars}


def _listed(rows: list[dict[str, Any]], sql: str) -> dict[str, Any]:
    return {"n": len(rows), "rows": rows[:LISTED], "sql": sql}


def methods_text(facts: dict[str, Any]) -> str:
    """A paragraph for the methods section of a paper, in plain text; `facts` as of `gather`."""
    normalization = " or ".join(str(one) for one in facts["normalizations"]) or "none"
    text: str = template("methods.md").render(facts | {"normalization": normalization})
    return " ".join(text.split())
