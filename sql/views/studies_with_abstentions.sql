-- One row is one study with a level that the model left without a grade, and these levels; most levels first.
CREATE OR REPLACE VIEW studies_with_abstentions AS
SELECT
    study_key,
    string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels
FROM 'levels.parquet'
WHERE abstained
GROUP BY study_key
ORDER BY count(*) DESC, study_key;
