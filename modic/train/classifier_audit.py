"""The audit in a classifier's card (modic/statistics/audit.py), and its risk against its coverage."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from modic.statistics.audit import (
    ADDED,
    BASE,
    JOINED,
    SHORT_CUT,
    WITHIN,
    Audited,
)
from modic.statistics.metrics import Key
from modic.statistics.risk_coverage import sure_grades
from modic.train.audit import measure_audit
from modic.train.augment.regions import Example

LINES: tuple[tuple[Key, str], ...] = (
    (("ROC AUC", "MC0 vs MC2"), "ROC AUC MC0 against MC2"),
    (WITHIN, "the same within one Pfirrmann grade"),
    (BASE, "Pfirrmann grade and level without an image"),
    (JOINED, "these and the grader's probability"),
    (ADDED, "what the grader adds"),
    (SHORT_CUT, "Spearman of P(MC2) and grade among MC0"),
    (("levels surely graded", "all"), "levels with a sure grade"),
    (("sure grades that are right", "all"), "sure grades that are right"),
    (("MC1 surely called MC2", "MC1"), "real MC1 surely called MC2"),
    (("MC1 surely called MC0", "MC1"), "real MC1 surely called MC0"),
)
BY_GRADE = ("mean P(MC2) of MC0", "MC0 called MC2", "MC0 surely called MC2")


def audit_results(examples: list[Example], p: np.ndarray, calibration: dict[str, Any]) -> dict[str, Any]:
    """Numbers with intervals by patient, of real discs of known Pfirrmann grade; nothing without such discs.

    Args:
        examples: painted and synthetic ones are passed over.
        p: float (n, 3), calibrated.
    """
    rows = [i for i, e in enumerate(examples) if e.real and e.disc.degeneration in range(1, 6)]
    if not rows:
        return {}
    discs = [examples[i].disc for i in rows]
    audited = Audited(
        p[rows], np.array([d.label for d in discs]), np.array([d.degeneration for d in discs]),
        np.full(len(rows), np.nan), [d.level for d in discs], [d.patient for d in discs],
        sure_grades(p[rows], calibration["conformal_q"]),
    )  # fmt: skip
    return {
        "patients": len({d.patient for d in discs}), "discs": len(rows),
        "numbers": [
            {"metric": row["metric"], "which": row["which"], "n": row["n"],
             **{name: None if row[name] is None else round(row[name], 3) for name in ("value", "low", "high")}}
            for row in measure_audit(audited)
        ],
    }  # fmt: skip


def audit_markdown(results: dict[str, Any]) -> list[str]:
    """The sections of the card for people."""
    return [*_audit(results), *_risk(results.get("risk_coverage"))]


def _audit(results: dict[str, Any]) -> list[str]:
    groups = {
        title: {(n["metric"], n["which"]): n for n in group["numbers"]}
        for name, title in (("audit", "out of fold"), ("audit_test", "test patients"))
        if (group := results.get(name))
    }
    if not groups:
        return []
    counts = "; ".join(
        f"{title}: {results[name]['discs']} real discs of {results[name]['patients']} patients"
        for name, title in (("audit", "out of fold"), ("audit_test", "test patients"))
        if results.get(name)
    )
    grades = sorted({which for group in groups.values() for _, which in group if which.startswith("Pfirrmann")})
    lines = [(title, key) for key, title in LINES]
    lines += [(f"{metric}, {grade}", (metric, grade)) for metric in BY_GRADE for grade in grades]
    return [
        "## Audit: what is told from degeneration",
        "`modic evaluate classifier --audit` asks the same of other data. Sure grades are counted here without the"
        f" marrow rules (modic/grading/agreement.py). {counts}. 95 % intervals by patient.", "",
        "| number | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups),
        *(f"| {title} | " + " | ".join(_cell(group.get(key)) for group in groups.values()) + " |"
          for title, key in lines if any(key in group for group in groups.values())), "",
    ]  # fmt: skip


def _cell(number: dict[str, Any] | None) -> str:
    if number is None:
        return "–"
    bounds = "" if number["low"] is None else f" ({number['low']:.2f} to {number['high']:.2f})"
    return f"{number['value']:.2f}{bounds}"


def _risk(rows: list[dict[str, Any]] | None) -> list[str]:
    if not rows:
        return []
    return [
        "## Risk and coverage",
        "Real discs out of fold; thresholds fitted on one half of the patients, discs counted on the other (20 times). "
        "`[grading] alpha` in cohort.toml chooses the row; thresholds for each alpha are in the JSON card.", "",
        "| alpha | sure | wrong of these | MC0 sure | MC0 wrong | MC2 sure | MC2 wrong |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join([f"{row['alpha']:g}", *(_share(row.get(name)) for name in (
            "sure", "wrong", "sure_mc0", "wrong_mc0", "sure_mc2", "wrong_mc2"))]) + " |" for row in rows), "",
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def sections_markdown(sections: Sequence[dict[str, Any]]) -> list[str]:
    """`sections` of a card: what was measured beside the training, each with `title`, `text`, `header` and `rows`."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {section['title']}", section["text"], ""]
        if section.get("rows"):
            table = [section["header"], ["---"] * len(section["header"]), *section["rows"]]
            lines += ["| " + " | ".join(map(str, row)) + " |" for row in table] + [""]
    return lines
