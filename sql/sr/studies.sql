-- One row is one graded study with its graded levels as a list, from head to foot.
SELECT
    studies.study_key,
    studies.t2_series_key,
    latest_run.code_version,
    list(levels ORDER BY levels.mm_z0 DESC) AS levels  -- noqa: RF02
FROM 'studies.parquet' AS studies
INNER JOIN 'levels.parquet' AS levels ON studies.study_key = levels.study_key
CROSS JOIN latest_run
WHERE studies.status = 'graded' AND levels.status = 'graded'
GROUP BY studies.study_key, studies.t2_series_key, latest_run.code_version
ORDER BY studies.study_key;
