-- One row is one study that trouble left without grades; a later run may cure it.
CREATE OR REPLACE VIEW failed_studies AS
SELECT
    study_key,
    reason,
    detail
FROM 'studies.parquet'
WHERE status = 'failed'
ORDER BY reason, study_key;
