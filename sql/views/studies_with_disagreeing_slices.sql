-- One row is one study with a level whose slices, each graded alone, disagree by 0.7 or more; largest first.
CREATE OR REPLACE VIEW studies_with_disagreeing_slices AS
SELECT
    study_key,
    string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels,
    max(slice_disagreement) AS largest
FROM 'levels.parquet'
WHERE slice_disagreement >= 0.7
GROUP BY study_key
ORDER BY largest DESC, study_key;
