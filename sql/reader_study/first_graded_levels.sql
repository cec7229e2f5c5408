-- One row is one graded level of a patient's first graded study, with what the model says of it.
SELECT
    levels.study_key,
    levels.patient_key,
    levels.level,
    levels.mc,
    levels.p_mc0,
    levels.p_mc1,
    levels.p_mc2
FROM 'levels.parquet' AS levels
INNER JOIN first_graded_studies AS firsts ON levels.study_key = firsts.study_key
WHERE levels.status = 'graded';
