-- One row: the run whose tables these are.
CREATE OR REPLACE VIEW latest_run AS
SELECT *
FROM 'runs.parquet'
ORDER BY run_id DESC
LIMIT 1;
