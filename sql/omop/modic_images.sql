-- One row is one series that a grade rests on: the T1, or the T2 (or the STIR in its place) of a graded study.
CREATE OR REPLACE VIEW modic_images AS
SELECT
    row_number() OVER (ORDER BY series.series_key) AS image_occurrence_id,
    persons.person_id,
    series.series_key,
    studies.study_key,
    studies.patient_key,
    studies.study_year,
    studies.days_since_first_study
FROM 'studies.parquet' AS studies
INNER JOIN modic_persons AS persons ON studies.patient_key = persons.patient_key
INNER JOIN 'series.parquet' AS series
    ON
        studies.study_key = series.study_key
        AND series.series_key IN (studies.t1_series_key, coalesce(studies.t2_series_key, studies.stir_series_key))
WHERE studies.status = 'graded';
