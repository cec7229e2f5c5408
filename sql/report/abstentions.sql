-- One row is one reason why graded levels have no sure grade, with its levels and studies; commonest first.
SELECT
    coalesce(abstained_reason, 'not said by an earlier version') AS reason,
    count(*) AS n_levels,
    count(DISTINCT study_key) AS n_studies
FROM 'levels.parquet'
WHERE abstained
GROUP BY ALL
ORDER BY n_levels DESC, reason;
