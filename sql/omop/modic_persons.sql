-- One row is one patient of the cohort, numbered.
CREATE OR REPLACE VIEW modic_persons AS
SELECT
    row_number() OVER (ORDER BY patient_key) AS person_id,
    patient_key
FROM (SELECT DISTINCT patient_key FROM 'studies.parquet') AS patients;
