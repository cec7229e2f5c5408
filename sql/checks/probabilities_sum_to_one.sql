-- One row is one graded level whose three probabilities are missing, outside 0-1, or do not sum to 1.
SELECT study_key, level, p_mc0, p_mc1, p_mc2
FROM levels
WHERE
    status = 'graded'
    AND NOT coalesce(
        abs(p_mc0 + p_mc1 + p_mc2 - 1) < 0.001
        AND least(p_mc0, p_mc1, p_mc2) >= 0
        AND greatest(p_mc0, p_mc1, p_mc2) <= 1,
        FALSE
    );
