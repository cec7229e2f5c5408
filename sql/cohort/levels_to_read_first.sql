-- One row is one level that a human reader should look at: abstained, or decided with little confidence.
SELECT
    study_key,
    level,
    mc,
    prediction_set,
    p_mc0,
    p_mc1,
    p_mc2,
    confidence,
    level_numbering
FROM graded_levels
WHERE abstained OR confidence < 0.7
ORDER BY abstained DESC, confidence, study_key, level;
