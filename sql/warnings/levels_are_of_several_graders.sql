-- One row is one grader of the levels, if there are several: studies that left the archive keep their rows, and another
-- word in a card makes another grader, though no study is graded again for it. Compare their rows with care.
SELECT grader_id, grading_version, count(DISTINCT study_key) AS studies, min(run_id) AS first_run_id
FROM levels
WHERE grader_id IS NOT NULL
GROUP BY grader_id, grading_version
QUALIFY count(*) OVER () > 1
ORDER BY first_run_id;
