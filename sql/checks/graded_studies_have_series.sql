-- One row is one graded study and one of its two series that is missing, another study's, or marked as not used.
WITH wanted AS (
    SELECT study_key, 't1' AS role, t1_series_key AS series_key FROM studies WHERE status = 'graded'
    UNION ALL
    SELECT
        study_key,
        CASE WHEN t2_series_key IS NULL THEN 'stir' ELSE 't2' END AS role,
        coalesce(t2_series_key, stir_series_key) AS series_key
    FROM studies WHERE status = 'graded'
)

SELECT wanted.study_key, wanted.role, wanted.series_key, series.role AS role_of_series, series.status
FROM wanted
LEFT JOIN series ON wanted.series_key = series.series_key AND wanted.study_key = series.study_key
WHERE series.series_key IS NULL OR series.status <> 'used' OR series.role <> wanted.role;
