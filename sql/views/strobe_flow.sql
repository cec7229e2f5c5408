-- One row is one number of the STROBE flow diagram: unit, outcome, reason, archive, and how many. Files are those of
-- each archive's last run. Within a unit and archive, n of outcome 'all' is the sum of all others.
CREATE OR REPLACE VIEW strobe_flow AS
WITH files AS (
    SELECT 'all' AS outcome, NULL AS reason, files_seen AS n, archive FROM latest_of_archives
    UNION ALL
    SELECT 'read', NULL, files_read, archive FROM latest_of_archives
    UNION ALL
    SELECT 'unchanged', NULL, files_unchanged, archive FROM latest_of_archives
    UNION ALL
    SELECT 'rejected', rejected.key, rejected.value::BIGINT, latest_of_archives.archive
    FROM latest_of_archives, json_each(latest_of_archives.files_rejected_by_reason) AS rejected
)

SELECT 'files' AS unit, outcome, reason, n, archive FROM files
UNION ALL
SELECT 'studies', 'all', NULL, count(*), archive FROM 'studies.parquet' GROUP BY archive
UNION ALL
SELECT 'studies', status, reason, count(*), archive FROM 'studies.parquet' GROUP BY status, reason, archive
UNION ALL
SELECT 'levels', 'all', NULL, count(*), studies.archive
FROM 'levels.parquet' AS levels
INNER JOIN 'studies.parquet' AS studies ON levels.study_key = studies.study_key
GROUP BY studies.archive
UNION ALL
SELECT
    'levels',
    CASE
        WHEN levels.status <> 'graded' THEN levels.status
        WHEN levels.abstained THEN 'abstained'
        ELSE 'mc' || levels.mc
    END AS level_outcome,
    levels.reason,
    count(*),
    studies.archive
FROM 'levels.parquet' AS levels
INNER JOIN 'studies.parquet' AS studies ON levels.study_key = studies.study_key
GROUP BY level_outcome, levels.reason, studies.archive;
