-- One row is one graded level whose mc is not its most probable grade, or is not null although it abstained.
SELECT study_key, level, mc, abstained, p_mc0, p_mc1, p_mc2
FROM levels
WHERE
    status = 'graded'
    AND CASE
        WHEN abstained IS NULL THEN TRUE
        WHEN abstained THEN mc IS NOT NULL
        ELSE coalesce([p_mc0, p_mc1, p_mc2][mc + 1] < greatest(p_mc0, p_mc1, p_mc2), TRUE)
    END;
