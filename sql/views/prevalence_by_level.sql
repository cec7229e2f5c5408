-- One row is one level, over every patient's first graded study: how many levels have each grade, or none.
-- share_* leave abstentions out and are not corrected for the grader's errors.
CREATE OR REPLACE VIEW prevalence_by_level AS
SELECT
    levels.level,
    count(*) AS n_patients,
    count(*) FILTER (WHERE levels.mc = 0) AS n_mc0,
    count(*) FILTER (WHERE levels.mc = 1) AS n_mc1,
    count(*) FILTER (WHERE levels.mc = 2) AS n_mc2,
    count(*) FILTER (WHERE levels.abstained) AS n_abstained,
    count(*) FILTER (WHERE levels.status = 'not_found') AS n_not_found,
    count(*) FILTER (WHERE levels.status = 'unreadable') AS n_unreadable,
    n_mc1 / nullif(count(levels.mc), 0) AS share_mc1,
    n_mc2 / nullif(count(levels.mc), 0) AS share_mc2
FROM 'levels.parquet' AS levels
INNER JOIN first_graded_studies AS firsts ON levels.study_key = firsts.study_key
GROUP BY levels.level
ORDER BY list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], levels.level);
