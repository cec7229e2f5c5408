-- One row is one graded study whose level names may be shifted, least certain first: review these, or leave them out.
CREATE OR REPLACE VIEW uncertain_numbering AS
SELECT
    study_key,
    patient_key,
    level_numbering_probability,
    n_levels_graded,
    manufacturer,
    scanner_model
FROM 'studies.parquet'
WHERE level_numbering = 'uncertain'
ORDER BY level_numbering_probability, study_key;
