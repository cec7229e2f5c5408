"""What readers measured of this cohort, for the methods paragraph."""

from pathlib import Path
from typing import Any

import pandas as pd

from modic.analysis.corrected import reference

KAPPA = {"metric": "Cohen's kappa", "which": "all", "condition": "where a grade was given"}
EVERYBODY = "all readers"
"""How the group of METRICS begins that is about all of them, also if an arbiter decided."""


def local_validation(cohort_root: Path) -> dict[str, Any] | None:
    """Readings, discs, patients, readers and samples of `COHORT/validation`, and κ with its interval; None without."""
    folder = cohort_root / "validation"
    if not (folder / "readings.parquet").is_file():
        return None
    readings = reference(pd.read_parquet(folder / "readings.parquet", partitioning=None))
    if not {"study_key", "level", "truth"} <= set(readings.columns):
        return None
    given = readings[readings["truth"].notna()]

    def distinct(*names: str) -> int:
        return len(given[list(names)].drop_duplicates()) if set(names) <= set(given.columns) else 0

    drawn = given["sample_id"].fillna("").ne("") if "sample_id" in given else pd.Series(False, given.index)
    units = set(given.loc[drawn, "unit"].dropna()) if "unit" in given else set()
    return {
        "n_readings": len(given), "n_discs": distinct("study_key", "level"), "n_patients": distinct("patient_key"),
        "n_readers": distinct("reader"), "n_drawn": int(drawn.sum()), "whole_patients": "patient" in units,
        "kappa": _kappa(folder / "metrics.parquet"),
    }  # fmt: skip


def _kappa(path: Path) -> dict[str, float] | None:
    """The row of METRICS of κ over all readers, where the grader gave a grade."""
    if not path.is_file():
        return None
    rows = pd.read_parquet(path, partitioning=None)
    rows = rows[rows["group"].str.startswith(EVERYBODY)]
    for name, value in KAPPA.items():
        rows = rows[rows[name] == value]
    return None if rows.empty else rows.iloc[0][["value", "low", "high"]].to_dict()
