-- One row is one level and one change of grade from a patient's graded study to that patient's next one.
-- Only levels decided in both studies, both with sure numbering. A change may be an error of either grade.
WITH visits AS (
    SELECT
        patient_key,
        level,
        mc,
        days_since_first_study,
        lead(mc) OVER visit AS next_mc,
        lead(days_since_first_study) OVER visit - days_since_first_study AS days_between
    FROM graded_levels
    WHERE mc IS NOT NULL AND level_numbering = 'ok' AND days_since_first_study IS NOT NULL
    WINDOW visit AS (PARTITION BY patient_key, level ORDER BY days_since_first_study, study_key)
)

SELECT
    level,
    mc AS mc_before,
    next_mc AS mc_after,
    count(*) AS n,
    median(days_between)::INTEGER AS median_days_between
FROM visits
WHERE next_mc IS NOT NULL
GROUP BY level, mc, next_mc
ORDER BY level, mc_before, mc_after;
