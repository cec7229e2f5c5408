"""Two data sets for Stata (`.dta`) and SPSS (`.sav`), with labels of variables and values.

| data set        | one row is                                                                            |
|-----------------|---------------------------------------------------------------------------------------|
| `graded_levels` | a graded level with the types and extents of its endplates                            |
| `patients`      | a patient's first graded study, with `mc_t12_l1` … `mc_l5_s1`, `any_mc` and the counts     |

`level` is coded 1 (T12/L1) to 6 (L5/S1), flags 0 and 1. What is null is missing: never 0.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat

from modic.export.flat import FLAGS, LEVEL_LABELS, TYPES, flat_queries, label_of, plain, wide_column
from modic.records import LEVELS
from modic.tables.query import connect
from modic.text import plural

FLAG = {0.0: "no", 1.0: "yes"}


def write_stata(cohort: Path, out: Path) -> list[str]:
    """Write `graded_levels.dta` and `patients.dta`; returns lines that say what was written."""
    return _write(cohort, out, "dta", pyreadstat.write_dta)


def write_spss(cohort: Path, out: Path) -> list[str]:
    """Write `graded_levels.sav` and `patients.sav`; returns lines that say what was written."""
    return _write(cohort, out, "sav", pyreadstat.write_sav)


def _write(cohort: Path, out: Path, suffix: str, write: Callable[..., None]) -> list[str]:
    lines = []
    for name, frame in zip(flat_queries(), _frames(cohort), strict=True):
        path = out / f"{name}.{suffix}"
        labels: list[str | None] = [label_of(column) for column in frame.columns]
        write(plain(frame), str(path), column_labels=labels, variable_value_labels=_values(frame))
        lines.append(f"{path}: {len(frame):,} {plural(len(frame), 'row')}")
    return lines


def _frames(cohort: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    with connect(cohort) as connection:
        levels, patients = (connection.sql(query).df() for query in flat_queries().values())
    return levels.assign(level=[LEVELS.index(name) + 1 for name in levels["level"]]), patients


def _values(frame: pd.DataFrame) -> dict[str, dict[float, str]]:
    labels: dict[str, Any] = {"level": LEVEL_LABELS, "mc": TYPES}
    labels |= {wide_column(level): TYPES for level in LEVELS}
    labels |= dict.fromkeys(FLAGS, FLAG)
    return {name: values for name, values in labels.items() if name in frame.columns}
