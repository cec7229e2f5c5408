"""Grades as OMOP CDM: `measurement` rows, and the medical imaging extension's `image_occurrence` and `image_feature`.

Tables, columns and types: OMOP CDM 5.4; the imaging extension MI-CDM (Park et al., J Imaging Inform Med 37 (2024)
899-908). There is no standard concept of a Modic change that this project could vouch for, so concept ids are 0
(unmapped), the source value says what is meant, and concepts.csv lists the source values for a site to map. The one
exception is the concept of the table `measurement`, which the extension names. What modic does not know is empty, not
made up: persons, dates and procedures, which the model requires. A site fills them in, in persons.csv and
image_keys.csv, and load.sql (PostgreSQL) joins them and inserts everything in one transaction.
"""

import shutil
from pathlib import Path

from modic.export.csv import copy_csv, safe_text
from modic.tables.query import connect

MEASURED = {
    "modic.mc": "Modic change type of a level: 0, 1 or 2; no number where the model abstained (value_source_value)",
    "modic.p_mc0": "calibrated probability of no Modic change",
    "modic.p_mc1": "calibrated probability of Modic change type 1",
    "modic.p_mc2": "calibrated probability of Modic change type 2",
}
"""measurement_source_value → meaning."""

MEASUREMENT_TABLE = 1147330
"""OMOP's concept of the table `measurement`: where image_feature_event_id points (MI-CDM conventions, section 7)."""

TABLES = """
CREATE TABLE persons AS
SELECT row_number() OVER (ORDER BY patient_key) AS person_id, patient_key
FROM (SELECT DISTINCT patient_key FROM studies);

CREATE TABLE images AS
SELECT
    row_number() OVER (ORDER BY series.series_key) AS image_occurrence_id, persons.person_id, series.series_key,
    studies.study_key, studies.patient_key, studies.study_year, studies.days_since_first_study
FROM studies
JOIN persons USING (patient_key)
JOIN series ON series.study_key = studies.study_key
    AND series.series_key IN (studies.t1_series_key, studies.t2_series_key)
WHERE studies.status = 'graded';

CREATE TABLE measured AS
SELECT
    row_number() OVER (ORDER BY said.study_key, said.place, said.what) AS measurement_id, persons.person_id, said.*,
    dense_rank() OVER (ORDER BY said.study_key, said.place) AS finding, images.image_occurrence_id
FROM (
    SELECT study_key, patient_key, level, detector_id, classifier_id, run_id, what, value, said,
        list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level) AS place
    FROM (
        SELECT *, unnest(['modic.mc', 'modic.p_mc0', 'modic.p_mc1', 'modic.p_mc2']) AS what,
            unnest([mc::DOUBLE, p_mc0::DOUBLE, p_mc1::DOUBLE, p_mc2::DOUBLE]) AS value,
            unnest([CASE WHEN abstained THEN 'abstained' ELSE 'MC' || mc END, NULL, NULL, NULL]) AS said
        FROM levels WHERE status = 'graded'
    )
) AS said
JOIN persons USING (patient_key)
JOIN studies ON studies.study_key = said.study_key
JOIN images ON images.series_key = studies.t2_series_key;
"""

LOAD = "omop_load.sql"

FILES = {
    "measurement": """
SELECT
    measurement_id, person_id, 0 AS measurement_concept_id, NULL AS measurement_date, NULL AS measurement_datetime,
    NULL AS measurement_time, 0 AS measurement_type_concept_id, NULL AS operator_concept_id, value AS value_as_number,
    CASE WHEN said IS NOT NULL THEN 0 END AS value_as_concept_id, NULL AS unit_concept_id, NULL AS range_low,
    NULL AS range_high, NULL AS provider_id, NULL AS visit_occurrence_id, NULL AS visit_detail_id,
    what AS measurement_source_value, 0 AS measurement_source_concept_id, NULL AS unit_source_value,
    NULL AS unit_source_concept_id, said AS value_source_value, NULL AS measurement_event_id,
    NULL AS meas_event_field_concept_id
FROM measured ORDER BY measurement_id""",
    "image_occurrence": """
SELECT
    image_occurrence_id, person_id, NULL AS procedure_occurrence_id, NULL AS visit_occurrence_id,
    0 AS anatomic_site_concept_id, NULL AS wadors_uri, NULL AS local_path, NULL AS image_occurrence_date,
    study_key AS image_study_uid, series_key AS image_series_uid, 0 AS modality_concept_id
FROM images ORDER BY image_occurrence_id""",
    "image_feature": f"""
SELECT
    measurement_id AS image_feature_id, person_id, image_occurrence_id,
    {MEASUREMENT_TABLE} AS image_feature_event_field_concept_id, measurement_id AS image_feature_event_id,
    0 AS image_feature_concept_id, 0 AS image_feature_type_concept_id, 0 AS image_finding_concept_id,
    finding AS image_finding_id, 0 AS anatomic_site_concept_id,
    'modic ' || (SELECT code_version FROM latest_run) || ', detector ' || detector_id
        || ', classifier ' || classifier_id || ', level ' || level AS alg_system,
    NULL AS alg_datetime
FROM measured ORDER BY measurement_id""",
    "persons": "SELECT person_id, patient_key, NULL AS cdm_person_id FROM persons ORDER BY person_id",
    "image_keys": f"""
SELECT
    image_occurrence_id, study_key, series_key, role, {safe_text("manufacturer")}, {safe_text("scanner_model")},
    field_strength_t, images.study_year, images.days_since_first_study, NULL AS cdm_date,
    NULL AS cdm_procedure_occurrence_id
FROM images JOIN series USING (study_key, series_key) JOIN studies USING (study_key) ORDER BY image_occurrence_id""",
}


def write_omop(cohort: Path, out: Path) -> list[str]:
    """measurement, image_occurrence and image_feature, what leads to the cohort's keys, as CSV, and load.sql."""
    said = []
    with connect(cohort) as connection:
        connection.execute(TABLES)
        for name, query in FILES.items():
            copy_csv(connection, query, out / f"{name}.csv")
            n = connection.sql(f"SELECT count(*) FROM ({query})").fetchall()[0][0]
            said.append(f"{out / name}.csv: {n:,} rows")
    lines = [f'{source},0,"{meaning}"' for source, meaning in MEASURED.items()]
    (out / "concepts.csv").write_text("\n".join(["source_value,concept_id,meaning", *lines, ""]), encoding="utf-8")
    shutil.copyfile(Path(__file__).parent / LOAD, out / "load.sql")
    return [*said, "to load: fill in the columns cdm_… of persons.csv and image_keys.csv, then run load.sql (psql)",
            "no concept is made up: map concepts.csv on site"]  # fmt: skip
