-- One row is one reason why studies, series or levels were not graded, most frequent first.
CREATE OR REPLACE VIEW reasons AS
SELECT 'studies' AS unit, status, reason, count(*) AS n FROM 'studies.parquet' WHERE reason IS NOT NULL GROUP BY ALL
UNION ALL
SELECT 'series' AS unit, status, reason, count(*) AS n FROM 'series.parquet' WHERE reason IS NOT NULL GROUP BY ALL
UNION ALL
SELECT 'levels' AS unit, status, reason, count(*) AS n FROM 'levels.parquet' WHERE reason IS NOT NULL GROUP BY ALL
ORDER BY unit DESC, n DESC, reason;
