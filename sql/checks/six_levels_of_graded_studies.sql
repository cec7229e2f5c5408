-- One row is one graded study without exactly its six levels, or one that is not graded and has some.
SELECT
    studies.study_key,
    studies.status,
    count(levels.level) AS n_levels,
    count(DISTINCT levels.level) AS n_distinct
FROM studies
LEFT JOIN levels ON studies.study_key = levels.study_key
GROUP BY studies.study_key, studies.status
HAVING
    count(levels.level) <> CASE studies.status WHEN 'graded' THEN 6 ELSE 0 END
    OR count(DISTINCT levels.level) <> count(levels.level);
