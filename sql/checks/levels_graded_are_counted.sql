-- One row is one study whose n_levels_graded is not the number of its levels with status graded.
SELECT
    studies.study_key,
    studies.n_levels_graded,
    count(levels.level) AS n_counted
FROM studies
LEFT JOIN levels ON studies.study_key = levels.study_key AND levels.status = 'graded'
GROUP BY studies.study_key, studies.n_levels_graded
HAVING studies.n_levels_graded IS DISTINCT FROM count(levels.level);
