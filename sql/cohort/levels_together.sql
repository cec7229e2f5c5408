-- One row is one pair of levels: patients (first graded study) with Modic change at both, one or neither of them.
-- Only patients in whom both levels were decided; n_expected is n_both if the levels were independent.
WITH firsts AS (
    SELECT study_key
    FROM 'studies.parquet'
    WHERE status = 'graded'
    QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY days_since_first_study NULLS LAST, study_key) = 1
),

decided AS (
    SELECT
        levels.study_key,
        levels.level,
        levels.mc > 0 AS changed,
        list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], levels.level) AS place
    FROM 'levels.parquet' AS levels
    INNER JOIN firsts ON levels.study_key = firsts.study_key
    WHERE levels.mc IS NOT NULL
)

SELECT
    upper.level AS upper_level,
    lower.level AS lower_level,
    count(*) AS n_patients,
    count(*) FILTER (WHERE upper.changed AND lower.changed) AS n_both,
    count(*) FILTER (WHERE upper.changed AND NOT lower.changed) AS n_upper_only,
    count(*) FILTER (WHERE lower.changed AND NOT upper.changed) AS n_lower_only,
    count(*) FILTER (WHERE NOT upper.changed AND NOT lower.changed) AS n_neither,
    round((n_both + n_upper_only) * (n_both + n_lower_only) / n_patients, 1) AS n_expected,
    round(n_both * n_neither / nullif(n_upper_only * n_lower_only, 0), 2) AS odds_ratio
FROM decided AS upper
INNER JOIN decided AS lower ON upper.study_key = lower.study_key AND upper.place < lower.place
GROUP BY upper.level, lower.level, upper.place, lower.place
ORDER BY upper.place, lower.place;
