-- One row is one series that a grade rests on, with the cohort's keys, and date and procedure for a site to add.
SELECT
    images.image_occurrence_id,
    images.study_key,
    images.series_key,
    series.role,
    studies.manufacturer,
    studies.scanner_model,
    studies.field_strength_t,
    images.study_year,
    images.days_since_first_study,
    NULL AS cdm_date,
    NULL AS cdm_procedure_occurrence_id
FROM modic_images AS images
INNER JOIN 'series.parquet' AS series
    ON images.study_key = series.study_key AND images.series_key = series.series_key
INNER JOIN 'studies.parquet' AS studies ON images.study_key = studies.study_key
ORDER BY images.image_occurrence_id;
