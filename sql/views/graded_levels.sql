-- One row is one graded level (a grade or an abstention), with its patient, its study and its scanner.
CREATE OR REPLACE VIEW graded_levels AS
SELECT
    levels.study_key,
    levels.patient_key,
    studies.study_year,
    studies.days_since_first_study,
    studies.age_years,
    studies.sex,
    studies.manufacturer,
    studies.scanner_model,
    studies.field_strength_t,
    studies.level_numbering,
    studies.transitional_suspected,
    levels.level,
    levels.mc,
    levels.p_mc0,
    levels.p_mc1,
    levels.p_mc2,
    levels.confidence,
    levels.prediction_set,
    levels.abstained,
    levels.slice_disagreement,
    levels.run_id
FROM 'levels.parquet' AS levels
INNER JOIN 'studies.parquet' AS studies ON levels.study_key = studies.study_key
WHERE levels.status = 'graded';
