-- One row is one sagittal series that nobody should take on trust: its role is unsure, or its description or its
-- geometry says something else. The evidence stands beside it; those in use come first.
CREATE OR REPLACE VIEW series_to_review AS
SELECT
    series_key,
    study_key,
    role,
    role_evidence,
    status,
    reason,
    detail,
    warnings
FROM 'series.parquet'
WHERE plane = 'sagittal' AND (reason = 'series.role_unsure' OR warnings IS NOT NULL)
ORDER BY status DESC, reason NULLS LAST, series_key;
