"""Two data sets for Stata (`.dta`) and SPSS (`.sav`), with labels of variables and values.

| data set  | one row is                                                                                  |
|-----------|---------------------------------------------------------------------------------------------|
| `levels`  | a graded level (the view `graded_levels`) with the types and extents of its endplates       |
| `patients` | a patient's first graded study, with `mc_t12_l1` … `mc_l5_s1`, `any_mc` and the counts     |

`level` is coded 1 (T12/L1) to 6 (L5/S1), flags 0 and 1. What is null is missing: never 0.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat

from modic.grades import GRADES
from modic.records import ENDPLATE_COLUMNS, LEVELS
from modic.tables.dictionary import MARKDOWN, dictionary
from modic.tables.query import connect
from modic.tables.schema import SCHEMAS

LONGEST = 80  # characters of a label in Stata
TYPES = {float(k): "no Modic change" if k == 0 else f"Modic type {k}" for k in range(len(GRADES))}
FLAG = {0.0: "no", 1.0: "yes"}
FLAGS = ("any_mc", "any_mc1", "any_mc2", "abstained", "transitional_suspected")
OWN = {
    "any_mc": "Modic change at one level or more; missing if nothing was found and a level undecided",
    "any_mc1": "type 1 at one level or more; missing as any_mc",
    "any_mc2": "type 2 at one level or more; missing as any_mc",
}
LEVELS_QUERY = f"""
SELECT graded_levels.* EXCLUDE (prediction_set), {", ".join(f"levels.{name}" for name in ENDPLATE_COLUMNS)}
FROM graded_levels INNER JOIN levels USING (study_key, level)
ORDER BY patient_key, study_key, list_position({list(LEVELS)!r}, level)
"""
PATIENTS_QUERY = "FROM patients WHERE n_studies_graded > 0 ORDER BY patient_key"


def write_stata(cohort: Path, out: Path) -> list[str]:
    """Write `levels.dta`, `patients.dta` and the data dictionary; returns lines that say what was written."""
    return _write(cohort, out, "dta", pyreadstat.write_dta)


def write_spss(cohort: Path, out: Path) -> list[str]:
    """Write `levels.sav`, `patients.sav` and the data dictionary; returns lines that say what was written."""
    return _write(cohort, out, "sav", pyreadstat.write_sav)


def _write(cohort: Path, out: Path, suffix: str, write: Callable[..., None]) -> list[str]:
    lines = []
    for name, frame in zip(("levels", "patients"), _frames(cohort), strict=True):
        path = out / f"{name}.{suffix}"
        labels = [_label(column)[:LONGEST] for column in frame.columns]
        write(_plain(frame), str(path), column_labels=labels, variable_value_labels=_values(frame))
        lines.append(f"{path}: {len(frame):,} rows")
    (out / MARKDOWN).write_text(dictionary(), encoding="utf-8")
    return lines


def _frames(cohort: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    with connect(cohort) as connection:
        levels, patients = (connection.sql(query).df() for query in (LEVELS_QUERY, PATIENTS_QUERY))
    first = levels[levels["study_key"].isin(patients["first_graded_study_key"])]
    wide = first.pivot(index="patient_key", columns="level", values="mc").reindex(columns=list(LEVELS))
    wide.columns = [_column(level) for level in LEVELS]
    patients = patients.merge(wide, left_on="patient_key", right_index=True, how="left")
    return levels.assign(level=[LEVELS.index(name) + 1 for name in levels["level"]]), patients


def _column(level: str) -> str:
    return f"mc_{level.lower().replace('/', '_')}"


def _label(column: str) -> str:
    """From the data dictionary."""
    if column in OWN:
        return OWN[column]
    of_level = {_column(level): f"Modic type at {level}, first graded study" for level in LEVELS}
    if column in of_level:
        return of_level[column]
    for schema in (SCHEMAS["levels"], SCHEMAS["studies"]):
        if column in schema.names:
            text: str = (schema.field(column).metadata or {}).get(b"description", b"").decode()
            return text.split(";")[0]
    return column.replace("_", " ")


def _values(frame: pd.DataFrame) -> dict[str, dict[float, str]]:
    labels: dict[str, Any] = {"level": {float(i): name for i, name in enumerate(LEVELS, 1)}, "mc": TYPES}
    labels |= {_column(level): TYPES for level in LEVELS}
    labels |= dict.fromkeys(FLAGS, FLAG)
    return {name: values for name, values in labels.items() if name in frame.columns}


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float with NaN, text without null."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if name in FLAGS or pd.api.types.is_numeric_dtype(values.dtype):
            columns[name] = values.astype("Float64").to_numpy(float, na_value=float("nan"))
        else:
            columns[name] = values.astype("string").fillna("").astype(object)
    return pd.DataFrame(columns)
