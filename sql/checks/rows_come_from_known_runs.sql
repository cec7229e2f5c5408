-- One row is one run_id of the studies, series or levels that is later than the latest finished run.
-- Earlier ones may be missing in runs: a killed run leaves finished shards whose rows are used, but never finishes.
WITH used AS (
    SELECT 'studies' AS table_name, run_id FROM studies
    UNION
    SELECT 'series' AS table_name, run_id FROM series
    UNION
    SELECT 'levels' AS table_name, run_id FROM levels
)

SELECT used.table_name, used.run_id
FROM used
WHERE coalesce(used.run_id > (SELECT max(runs.run_id) FROM runs), TRUE);
