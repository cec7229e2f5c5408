-- One row: how many patients the studies are of, and how many of them have a graded study.
SELECT
    count(DISTINCT patient_key) AS n_patients,
    count(DISTINCT patient_key) FILTER (WHERE status = 'graded') AS n_patients_graded
FROM 'studies.parquet';
