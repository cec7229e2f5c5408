"""Two flat tables for people who want one file: a row a graded level, and a row a patient.

| table           | one row is                                                                               |
|-----------------|------------------------------------------------------------------------------------------|
| `graded_levels` | a graded level with its study and its patient (sql/flat/graded_levels.sql)               |
| `patients`      | a patient with a graded study: counts, and the grades of the first one (patients.sql)    |
"""

import re
from typing import Any

import pandas as pd

from modic.grades import GRADES, P
from modic.records import LEVELS, SIDES
from modic.tables.dictionary import dictionary, note
from modic.tables.query import first_comment, statements
from modic.tables.schema import SCHEMAS


def wide_column(level: str) -> str:
    """The column of `patients` that holds the grade of a level: mc_l5_s1."""
    return f"mc_{level.lower().replace('/', '_')}"


OWN = {
    "any_mc": "Modic change at one level or more; missing if nothing was found and a level was undecided",
    "any_mc1": "type 1 at one level or more; missing as any_mc",
    "any_mc2": "type 2 at one level or more; missing as any_mc",
    "n_studies": "studies of the patient",
    "n_studies_graded": "graded studies of the patient",
    "first_graded_study_key": "study_key of the first graded study, which all columns but the counts are about",
    "n_levels_decided": "levels of the first graded study with a grade",
    "n_levels_abstained": "levels of the first graded study on which the grader abstained",
    "n_levels_mc1": "levels of the first graded study with type 1",
    "n_levels_mc2": "levels of the first graded study with type 2",
    **{wide_column(level): f"Modic type at {level}, first graded study; missing if undecided" for level in LEVELS},
}
"""Columns of the flat tables that the four tables do not have → what they mean."""


def flat_queries() -> dict[str, str]:
    """Name of each flat table → its query."""
    return statements("flat")


def meaning(column: str) -> str:
    """What a column of a flat table means, from the data dictionary."""
    if column in OWN:
        return OWN[column]
    for table in ("levels", "studies"):
        if column in SCHEMAS[table].names:
            return note(SCHEMAS[table].field(column), "description")
    return column.replace("_", " ")


LEVEL_LABELS = {float(number): name for number, name in enumerate(LEVELS, 1)}
"""Levels as numbers, which programs for statistics want, and what they stand for."""
TYPES = {float(k): "no Modic change" if k == 0 else f"Modic type {k}" for k in range(len(GRADES))}
"""Grades as numbers, and what they stand for."""
FLAGS = ("any_mc", "any_mc1", "any_mc2", "abstained", "transitional_suspected")
"""Columns of true and false, also where a null made objects of them."""


LONGEST = 80
BESIDE = tuple(zip(SIDES, ("above", "below"), strict=True))
SHORT = {
    **{
        name: f"P({grade}), calibrated for equally frequent grades, not for this cohort"
        for name, grade in zip(P, GRADES, strict=True)
    },
    "abstained": "the grader abstained: mc is missing",
    "slice_disagreement": "how far the slices of the level, each graded alone, disagree",
    "transitional_suspected": "one lumbar vertebra more or fewer, or a transitional one, is suspected",
    **{f"mc_{side}": f"Modic type at the endplate {where} the disc" for side, where in BESIDE},
    **{
        f"udby_{side}": f"height of the change {where} the disc: A < 25 %, B 25-50 %, C > 50 %"
        for side, where in BESIDE
    },
}
"""Labels of columns whose meaning is too long to be one."""


def label_of(column: str) -> str:
    """The label of a column of a flat table."""
    return SHORT.get(column) or label(meaning(column))


def label(text: str) -> str:
    """The beginning of a meaning, whole words, as short as Stata wants it (80 letters)."""
    short = re.split(r";|\. ", text)[0]
    return short if len(short) <= LONGEST else short[: LONGEST + 1].rpartition(" ")[0].rstrip(",:")


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The same columns as float with NaN, or as text without null."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if name in FLAGS or pd.api.types.is_numeric_dtype(values.dtype):
            columns[name] = values.astype("Float64").to_numpy(float, na_value=float("nan"))
        else:
            columns[name] = values.astype("string").fillna("").astype(object)
    return pd.DataFrame(columns)


def whole_dictionary(columns: dict[str, list[str]]) -> str:
    """The data dictionary of the four tables and of flat tables; `columns`: flat table → its columns."""
    text = dictionary()
    for table, names in columns.items():
        row = first_comment(flat_queries()[table])
        lines = [f"## {table} (flat)", "", row, "", "| column | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {meaning(name)} |" for name in names]
        text += "\n" + "\n".join([*lines, ""])
    return text
