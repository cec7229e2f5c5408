-- One row is one patient's first graded study: count these to count every patient once.
CREATE OR REPLACE VIEW first_graded_studies AS
SELECT *
FROM 'studies.parquet'
WHERE status = 'graded'
QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY days_since_first_study NULLS LAST, study_key) = 1;
