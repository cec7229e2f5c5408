-- One row is the latest run if its counts are not those of the studies table.
WITH counted AS (
    SELECT
        count(*) AS found,
        count(*) FILTER (WHERE status = 'graded') AS graded,
        count(*) FILTER (WHERE status = 'excluded') AS excluded,
        count(*) FILTER (WHERE status = 'failed') AS failed
    FROM studies
)

SELECT latest_run.run_id, counted.*
FROM latest_run, counted
WHERE
    (latest_run.studies_found, latest_run.studies_graded, latest_run.studies_excluded, latest_run.studies_failed)
    <> (counted.found, counted.graded, counted.excluded, counted.failed);
