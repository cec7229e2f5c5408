-- One row is one key that more than one row has.
SELECT 'studies' AS table_name, study_key AS key, count(*) AS n FROM studies GROUP BY ALL HAVING count(*) > 1
UNION ALL
SELECT 'series' AS table_name, series_key AS key, count(*) AS n FROM series GROUP BY ALL HAVING count(*) > 1
UNION ALL
SELECT 'levels' AS table_name, study_key || ' ' || level AS key, count(*) AS n
FROM levels GROUP BY ALL HAVING count(*) > 1
UNION ALL
SELECT 'runs' AS table_name, run_id AS key, count(*) AS n FROM runs GROUP BY ALL HAVING count(*) > 1;
