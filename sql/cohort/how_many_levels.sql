-- One row is one number of levels graded with Modic change, and the patients (first graded study) who have so many. Of
-- n_with_undecided patients a level was not decided (abstained, not found, unreadable): they may have more.
WITH firsts AS (
    SELECT study_key
    FROM 'studies.parquet'
    WHERE status = 'graded'
    QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY days_since_first_study NULLS LAST, study_key) = 1
),

patients AS (
    SELECT
        levels.study_key,
        count(*) FILTER (WHERE levels.mc = 1) AS n_mc1,
        count(*) FILTER (WHERE levels.mc = 2) AS n_mc2,
        count(*) FILTER (WHERE levels.mc IS NULL) AS n_undecided
    FROM 'levels.parquet' AS levels
    INNER JOIN firsts ON levels.study_key = firsts.study_key
    GROUP BY levels.study_key
)

SELECT
    n_mc1 + n_mc2 AS n_levels_with_mc,
    count(*) AS n_patients,
    count(*) FILTER (WHERE n_mc1 > 0 AND n_mc2 > 0) AS n_with_both_types,
    count(*) FILTER (WHERE n_undecided > 0) AS n_with_undecided
FROM patients
GROUP BY n_levels_with_mc
ORDER BY n_levels_with_mc;
