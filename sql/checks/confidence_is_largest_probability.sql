-- One row is one graded level whose confidence is not the largest of its probabilities.
SELECT study_key, level, confidence, p_mc0, p_mc1, p_mc2
FROM levels
WHERE status = 'graded' AND coalesce(abs(confidence - greatest(p_mc0, p_mc1, p_mc2)) > 0.001, TRUE);
