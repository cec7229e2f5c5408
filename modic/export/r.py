"""Two data sets for R: `graded_levels.csv` and `patients.csv` (modic/export/flat.py), and `read.R`, which reads them.

`source("read.R", chdir = TRUE)` gives data frames of these names, with base R alone: levels and grades are factors,
flags are logical, what is null is NA (never 0), and every column has its label as an attribute.
"""

import json
from pathlib import Path

from modic.export.csv import copy_csv
from modic.export.flat import FLAGS, LEVEL_LABELS, TYPES, flat_queries, label_of, wide_column
from modic.records import LEVELS
from modic.tables.query import connect
from modic.text import plural

NUMBERS = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
HEAD = """\
# Reads the two tables beside it: source("read.R", chdir = TRUE). dictionary.md says what each column means.
modic_read <- function(file, texts, flags, grades, labels) {
  classes <- setNames(rep("character", length(texts)), texts)  # else a column of women, all "F", would be FALSE
  table <- read.csv(file, na.strings = "", colClasses = classes, encoding = "UTF-8")
  for (name in intersect(flags, names(table))) table[[name]] <- as.logical(table[[name]])
  for (name in intersect(grades, names(table)))
    table[[name]] <- factor(table[[name]], levels = modic_types$value, labels = modic_types$label)
  if ("level" %in% names(table)) table$level <- factor(table$level, levels = modic_levels)
  for (name in names(table)) attr(table[[name]], "label") <- labels[[name]]
  table
}
"""


def write_r(cohort: Path, out: Path) -> list[str]:
    """Write both tables and `read.R`; returns lines that say what was written."""
    grades = ["mc", *map(wide_column, LEVELS)]
    code = [
        HEAD,
        f"modic_levels <- {_vector(LEVEL_LABELS.values())}",
        f"modic_types <- list(value = {_vector(map(int, TYPES))}, label = {_vector(TYPES.values())})",
    ]
    lines = []
    with connect(cohort) as connection:
        for name, query in flat_queries().items():
            n = copy_csv(connection, query, out / f"{name}.csv")
            answer = connection.sql(query)
            kinds = dict(zip(answer.columns, map(str, answer.types), strict=True))
            texts = [column for column, kind in kinds.items() if kind not in NUMBERS]
            labels = ", ".join(f"{column} = {_text(label_of(column))}" for column in kinds)
            vectors = ", ".join(map(_vector, (texts, FLAGS, grades)))
            code.append(f'{name} <- modic_read("{name}.csv", {vectors}, list({labels}))')
            lines.append(f"{out / name}.csv: {n:,} {plural(n, 'row')}")
    (out / "read.R").write_text("\n".join([*code, ""]), encoding="utf-8")
    return [*lines, f'{out / "read.R"}: reads both in R: source("read.R", chdir = TRUE)']


def _vector(values: object) -> str:
    return f"c({', '.join(map(_text, values))})"  # type: ignore[call-overload]


def _text(value: object) -> str:
    """A number or a text as R writes it; its escapes in double quotes are those of JSON."""
    return json.dumps(value, ensure_ascii=False)
