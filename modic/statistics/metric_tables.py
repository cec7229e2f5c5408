"""Metrics with their intervals as rows of a table, and as text and Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modic.statistics.intervals import wilson
from modic.statistics.metrics import DRAWS, Key, Numbers, intervals
from modic.tables.described import Columns
from modic.text import plain_markdown

METRICS: Columns = {
    "group": ("string", "which of the discs"),
    "condition": ("string", "as trained, or how the images were made harder to grade"),
    "metric": ("string", "what was measured"),
    "which": ("string", "of which class, level or average"),
    "value": ("float64", "the number; shares, areas and scores are 0-1, Brier over all classes 0-2"),
    "low": ("float64", f"lower end of the 95 % interval, from {DRAWS} draws of patients with all their discs"),
    "high": ("float64", "upper end of the 95 % interval"),
    "n": ("int64", "discs, slices or patients that the number is about"),
    "n_patients": ("int64", "patients that the number is about"),
    "note": ("string", "what one must know to interpret the number"),
}

SHARES = {
    "sensitivity", "specificity", "coverage", "abstained", "accuracy where not abstained", "same grade", "same type",
    "named right", "all names right", "flagged uncertain", "wrong ones flagged", "wrong and not flagged",
    "levels surely graded", "sure grades that are right", "wrong level", "unusable",
}  # fmt: skip
"""Metrics that are a share of discs, slices or patients."""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column names, and rows of text."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def text(self) -> str:
        """Plain text, columns aligned."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        padded = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
        return "\n".join([self.title, *("  ".join(line).rstrip() for line in padded)])

    def markdown(self) -> str:
        """The same in Markdown."""
        rows = [tuple(map(plain_markdown, row)) for row in (self.header, *self.rows)]
        lines = [rows[0], ("---",) * len(self.header), *rows[1:]]
        title = [f"**{plain_markdown(self.title)}**", ""] if self.title else []
        return "\n".join([*title, *("| " + " | ".join(line) + " |" for line in lines), ""])


def with_intervals(
    statistic: Callable[[np.ndarray], Numbers], patients: list[str], used: Callable[[Key], np.ndarray],
    **shared: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of `METRICS` for the numbers of `statistic` over all discs; numbers without a value are left out.

    Args:
        statistic: from indices of discs to numbers.
        patients: whose each disc is.
        used: the discs (bool mask) that a metric is about.
        shared: values of other columns.
    """
    names = np.array(patients)
    bounds = intervals(statistic, patients, draws=DRAWS)
    rows = []
    for key, value in statistic(np.arange(len(patients))).items():
        if np.isfinite(value):
            about = used(key)
            counts = {"n": int(about.sum()), "n_patients": len(set(names[about].tolist()))}
            low, high = _ends(key[0], value, bounds.get(key), counts["n_patients"])
            named = {"metric": key[0], "which": key[1], "value": value, "low": low, "high": high}
            rows.append({**shared, **named, **counts})
    return rows


def _ends(metric: str, value: float, drawn: tuple[float, float] | None, n_patients: int) -> tuple[Any, Any]:
    """Ends of an interval. If every draw of patients gives one number, as 3 of 3 found always are, the draws tell
    nothing: that of a share is then Wilson's of as many patients, others have none."""
    if drawn is None or drawn[0] < drawn[1]:
        return drawn or (None, None)
    return wilson(value * n_patients, n_patients) if metric in SHARES else (None, None)


def cell(rows: list[dict[str, Any]], metric: str, which: str) -> str:
    """`0.71 (0.60–0.82)`; a dash if there is no such number."""
    for row in rows:
        if (row["metric"], row["which"]) == (metric, which):
            bounds = "" if row["low"] is None else f" ({row['low']:.2f}–{row['high']:.2f})"
            return f"{row['value']:.2f}{bounds}"
    return "–"


def count(rows: list[dict[str, Any]], metric: str, which: str) -> str:
    """How many discs, slices or patients a number is about."""
    return next((str(r["n"]) for r in rows if (r["metric"], r["which"]) == (metric, which)), "0")
