-- One row is one level and one change of grade from a patient's study to that patient's next study (mc_before to
-- mc_after; equal if nothing changed). Studies without a grade of the level, or with uncertain numbering, are skipped.
-- A change may be an error of either grade.
WITH visits AS (
    SELECT
        levels.patient_key,
        levels.level,
        levels.mc,
        studies.days_since_first_study,
        lead(levels.mc) OVER visit AS next_mc,
        lead(studies.days_since_first_study) OVER visit - studies.days_since_first_study AS days_between
    FROM 'levels.parquet' AS levels
    INNER JOIN 'studies.parquet' AS studies ON levels.study_key = studies.study_key
    WHERE levels.mc IS NOT NULL AND studies.level_numbering = 'ok' AND studies.days_since_first_study IS NOT NULL
    WINDOW
        visit AS (
            PARTITION BY levels.patient_key, levels.level ORDER BY studies.days_since_first_study, studies.study_key
        )
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
ORDER BY list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level), mc_before, mc_after;
