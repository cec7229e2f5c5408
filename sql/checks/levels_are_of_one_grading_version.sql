-- One row is one level that another grading version graded than that of the latest run, though its study is still in
-- the archive. Two algorithms never mix in one table; only studies that left the archive keep what they had.
SELECT levels.study_key, levels.level, levels.grading_version, latest_run.grading_version AS version_of_latest_run
FROM levels
INNER JOIN studies ON levels.study_key = studies.study_key
CROSS JOIN latest_run
WHERE
    coalesce(levels.grading_version, 1) <> coalesce(latest_run.grading_version, 1)
    AND coalesce(studies.in_archive, TRUE);
