"""The report of a cohort's last run: one HTML page that needs nothing else, and a methods paragraph for a paper.

Everything in it comes from the published tables, through the views of sql/views.
"""

import base64
import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from modic.answers import answers
from modic.cases import DISAGREEMENT, LEVEL_QUESTION, QUESTION, gather_cases
from modic.cohort import write_whole
from modic.epidemiology import wilson
from modic.errors import UsageError
from modic.query import connect, rows_of
from modic.strobe import lay_out, steps

PACKAGES = ("modic", "torch", "torchvision", "monai", "pydicom", "numpy", "opencv-python-headless", "pyarrow", "duckdb",
            "prefect", "dask")  # fmt: skip
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
    """Everything the page shows, read from one state of the tables. Raises UsageError as `modic.query.connect`."""
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


def viewer(cases: dict[str, Any]) -> dict[str, str]:
    """What templates/cases.html needs, and the policy of a page that may run the viewer and no other script."""
    templates = Path(__file__).parent / "templates"
    script, style = ((templates / name).read_text(encoding="utf-8") for name in ("cases.js", "cases.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src 'self' file:"
    text = json.dumps(cases, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return {"cases": text, "viewer": script, "viewer_style": style, "csp": policy}


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


def versions() -> dict[str, str]:
    """Versions of what a grade depends on, where installed, as the process that writes the report has them."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def methods_text(facts: dict[str, Any]) -> str:
    """A paragraph for the methods section of a paper, in plain text; `facts` as of `gather`."""
    normalization = " or ".join(str(one) for one in facts["normalizations"]) or "none"
    text: str = template("methods.md").render(facts | {"normalization": normalization})
    return " ".join(text.split())


def template(name: str) -> Any:
    """A Jinja template of modic/templates, with the filters that reports need."""
    environment = Environment(
        loader=PackageLoader("modic"), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["n"] = _number
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}"
    environment.filters["share"] = _share
    environment.filters["time"] = lambda value: f"{value:%Y-%m-%d %H:%M} UTC"
    return environment.get_template(name)


def _number(value: float | str | None) -> str:
    """Counts with thousands separators, measures to three digits, words as they are."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _share(row: dict[str, Any] | None) -> str:
    """Percent with its interval, of a row with share, low and high."""
    if row is None or row["share"] != row["share"]:  # nan: nothing to take a share of
        return "–"
    return f"{100 * row['share']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"
