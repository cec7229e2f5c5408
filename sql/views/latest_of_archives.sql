-- One row is one archive that feeds the cohort: its last run, which counts its files. Archives whose studies have all
-- moved to another one are left out; runs of before archives were numbered count only if the last run is one of them.
CREATE OR REPLACE VIEW latest_of_archives AS
SELECT *
FROM 'runs.parquet'
WHERE
    (archive IS NULL AND run_id = (SELECT max(newest.run_id) FROM 'runs.parquet' AS newest))
    OR archive IN (SELECT studies.archive FROM 'studies.parquet' AS studies)
    OR (archive IS NOT NULL AND run_id = (SELECT max(newest.run_id) FROM 'runs.parquet' AS newest))
QUALIFY row_number() OVER (PARTITION BY archive ORDER BY run_id DESC) = 1;
