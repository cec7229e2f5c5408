-- One row is one number of the STROBE flow diagram of the latest run: unit, outcome, reason, and how many.
-- Within a unit, n of outcome 'all' is the sum of all others.
CREATE OR REPLACE VIEW strobe_flow AS
WITH files AS (
    SELECT 'all' AS outcome, NULL AS reason, files_seen AS n FROM latest_run
    UNION ALL
    SELECT 'read', NULL, files_read FROM latest_run
    UNION ALL
    SELECT 'unchanged', NULL, files_unchanged FROM latest_run
    UNION ALL
    SELECT 'rejected', rejected.key, rejected.value::BIGINT
    FROM latest_run, json_each(latest_run.files_rejected_by_reason) AS rejected
)

SELECT 'files' AS unit, outcome, reason, n FROM files
UNION ALL
SELECT 'studies', 'all', NULL, count(*) FROM 'studies.parquet'
UNION ALL
SELECT 'studies', status, reason, count(*) FROM 'studies.parquet' GROUP BY status, reason
UNION ALL
SELECT 'levels', 'all', NULL, count(*) FROM 'levels.parquet'
UNION ALL
SELECT
    'levels',
    CASE WHEN status <> 'graded' THEN status WHEN abstained THEN 'abstained' ELSE 'mc' || mc END AS level_outcome,
    reason,
    count(*)
FROM 'levels.parquet'
GROUP BY level_outcome, reason;
