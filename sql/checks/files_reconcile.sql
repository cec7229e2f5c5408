-- One row is one run whose files do not add up: seen = read + unchanged + rejected, rejected = sum of its reasons.
SELECT
    run_id,
    files_seen,
    files_read,
    files_unchanged,
    files_rejected,
    files_rejected_by_reason
FROM runs
WHERE
    files_seen <> files_read + files_unchanged + files_rejected
    OR files_rejected <> (
        SELECT coalesce(sum(counted.value::BIGINT), 0) FROM json_each(runs.files_rejected_by_reason) AS counted
    );
