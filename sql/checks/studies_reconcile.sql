-- One row is one run whose studies do not add up: found = graded + excluded + failed; the last two = the reasons.
SELECT
    run_id,
    studies_found,
    studies_graded,
    studies_excluded,
    studies_failed,
    studies_by_reason
FROM runs
WHERE
    studies_found <> studies_graded + studies_excluded + studies_failed
    OR studies_excluded + studies_failed <> (
        SELECT coalesce(sum(counted.value::BIGINT), 0) FROM json_each(runs.studies_by_reason) AS counted
    );
