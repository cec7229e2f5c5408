"""Grades as OMOP CDM: `measurement` rows, and `image_occurrence` and `image_feature` of the medical imaging extension.

Tables, columns and types: OMOP CDM 5.4; the imaging extension MI-CDM (Park et al., J Imaging Inform Med 37 (2024)
899-908). The queries are sql/omop/*.sql. There is no standard concept of a Modic change that this project could vouch
for, so concept ids are 0 (unmapped), the source value says what is meant, and concepts.csv lists the source values for
a site to map. The one exception is the concept of the table `measurement`, which the extension names. Persons, dates
and procedures, which the model requires and modic does not know, are empty and not made up. A site fills them in, in
persons.csv and image_keys.csv; load.sql (PostgreSQL) joins them and inserts everything in one transaction.
"""

import shutil
from pathlib import Path

from modic.export.csv import copy_csv
from modic.grades import GRADES, P
from modic.tables.query import connect, statements
from modic.text import plural

MEASURED = {
    "modic.mc": "Modic change type of a level: 0, 1 or 2; no number where the model abstained (value_source_value)",
    f"modic.{P[0]}": "calibrated probability of no Modic change",
    **{
        f"modic.{column}": f"calibrated probability of Modic change type {grade[-1]}"
        for column, grade in zip(P[1:], GRADES[1:], strict=True)
    },
}
"""measurement_source_value → meaning."""

VIEWS = ("modic_persons", "modic_images", "modic_measurements")
"""Views that the files are written from; each may use those before it."""

FILES = ("measurement", "image_occurrence", "image_feature", "persons", "image_keys")
LOAD = Path(__file__).with_name("omop_load.sql")


def write_omop(cohort: Path, out: Path) -> list[str]:
    """Write the three tables, the keys of the cohort and the concepts as CSV, and load.sql.

    Returns lines that say what was written and what is left to do.
    """
    queries = statements("omop")
    with connect(cohort) as connection:
        for view in VIEWS:
            connection.execute(queries[view])
        rows = {name: copy_csv(connection, queries[name], out / f"{name}.csv") for name in FILES}
    concepts = [f'{source},0,"{meaning}"' for source, meaning in MEASURED.items()]
    (out / "concepts.csv").write_text("\n".join(["source_value,concept_id,meaning", *concepts, ""]), encoding="utf-8")
    shutil.copyfile(LOAD, out / "load.sql")
    return [
        *(f"{out / name}.csv: {n:,} {plural(n, 'row')}" for name, n in rows.items()),
        "to load: fill in the columns cdm_… of persons.csv and image_keys.csv, then run load.sql with psql",
        "no concept is made up: map the source values of concepts.csv at your site",
    ]
