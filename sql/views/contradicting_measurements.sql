-- One row is one study with a level whose likely grade was taken back, since the marrow measured beside its endplates
-- contradicts it, these levels, and why; most levels first.
CREATE OR REPLACE VIEW contradicting_measurements AS
SELECT
    study_key,
    string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels,
    string_agg(DISTINCT abstained_reason, ', ' ORDER BY abstained_reason) AS reasons
FROM 'levels.parquet'
WHERE abstained_reason IN ('marrow.t1_dark', 'marrow.t1_bright', 'marrow.like_type_1')
GROUP BY study_key
ORDER BY count(*) DESC, study_key;
