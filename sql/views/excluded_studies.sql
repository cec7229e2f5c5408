-- One row is one study that a rule leaves out.
CREATE OR REPLACE VIEW excluded_studies AS
SELECT
    study_key,
    reason,
    detail
FROM 'studies.parquet'
WHERE status = 'excluded'
ORDER BY reason, study_key;
