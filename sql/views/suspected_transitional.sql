-- One row is one graded study in which a vertebra may be more or fewer than usual, or L5 or S1 transitional, likeliest
-- first. Names count from the last mobile disc above the sacrum: look at these, or leave them out where a level
-- matters.
CREATE OR REPLACE VIEW suspected_transitional AS
SELECT
    study_key,
    patient_key,
    transitional_probability,
    transitional_reason,
    level_numbering,
    numbering_basis,
    manufacturer,
    scanner_model
FROM 'studies.parquet'
WHERE transitional_suspected
ORDER BY transitional_probability DESC, study_key;
