"""What both evaluations say and write: the sentence about data and weights, the tables, the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modic.statistics.metric_tables import METRICS, Table
from modic.statistics.metrics import DRAWS
from modic.tables.described import Columns, write_rows


def data_sentence(sources: Sequence[str], part: str, weights: str, patients: int) -> str:
    """Weights, data and number of patients in one sentence, without a path.

    Args:
        sources: the values of `--data`.
        part: the value of `--part`.
    """
    names = ", ".join(source if source.startswith("phantom") else source.split("=")[0] for source in sources)
    which = "patients of the test split" if part == "test" else "patients, of training data also those trained on"
    return f"Weights {weights}; {names}: {patients} {which}."


def write_evaluation(
    out: Path, title: str, facts: list[str], tables: list[Table], metrics: list[dict[str, Any]],
    predictions: list[dict[str, Any]], columns: Columns,
) -> None:  # fmt: skip
    """Write metrics.parquet, predictions.parquet and evaluation.md into `out`, and print the same tables."""
    write_rows(out / "metrics.parquet", metrics, METRICS)
    write_rows(out / "predictions.parquet", predictions, columns)
    lines = [f"# {title}", "", *(f"- {fact}" for fact in facts), "", *(table.markdown() for table in tables)]
    lines += [f"Intervals: 95 %, from {DRAWS} draws of patients with all their discs.", ""]
    (out / "evaluation.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n\n".join(["\n".join([title, *facts]), *(table.text() for table in tables)]))
    print(f"\nintervals: 95 %, by patient; written: {out}/evaluation.md, metrics.parquet, predictions.parquet")
