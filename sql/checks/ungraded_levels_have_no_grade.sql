-- One row is one level that was not graded and yet has a grade, a probability or no reason; or was, and has a reason.
SELECT study_key, level, status, reason, mc, p_mc0, p_mc1, p_mc2
FROM levels
WHERE
    (status = 'graded' AND reason IS NOT NULL)
    OR (
        status <> 'graded'
        AND (
            reason IS NULL
            OR coalesce(mc, p_mc0, p_mc1, p_mc2, confidence, slice_disagreement) IS NOT NULL
            OR coalesce(abstained, FALSE)
        )
    );
