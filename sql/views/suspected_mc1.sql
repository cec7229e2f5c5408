-- One row is one study with a level that is graded MC1, or that abstained while MC1 is its most probable type, these
-- levels, and the largest probability of MC1 among them; largest first. Candidates to look at, not findings.
CREATE OR REPLACE VIEW suspected_mc1 AS
SELECT
    study_key,
    string_agg(level, ', ' ORDER BY mm_z0 DESC) AS levels,
    max(p_mc1) AS largest
FROM 'levels.parquet'
WHERE mc = 1 OR (abstained AND p_mc1 = greatest(p_mc0, p_mc1, p_mc2))
GROUP BY study_key
ORDER BY largest DESC, study_key;
