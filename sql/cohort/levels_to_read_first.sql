-- One row is one level that a reader should look at first: the model abstained, its confidence is low, or the slices
-- disagree (the grade is clear in one of them and unlikely in another).
SELECT
    levels.study_key,
    levels.level,
    levels.mc,
    levels.prediction_set,
    levels.p_mc0,
    levels.p_mc1,
    levels.p_mc2,
    levels.confidence,
    levels.slice_disagreement,
    studies.level_numbering
FROM 'levels.parquet' AS levels
INNER JOIN 'studies.parquet' AS studies ON levels.study_key = studies.study_key
WHERE levels.abstained OR levels.confidence < 0.7 OR levels.slice_disagreement >= 0.7
ORDER BY levels.abstained DESC, levels.confidence, levels.study_key, levels.level;
