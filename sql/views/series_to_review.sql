-- One row is one sagittal series that a person should check: its contrast (role) is unsure, or it carries a warning.
-- role_evidence says what decided the contrast. Series in use come first.
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
