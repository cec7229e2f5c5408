-- One row is one decade of age and sex: patients (first graded study) with Modic change at one level or more, as graded
-- and not corrected. A patient in whom nothing was found and a level was not decided is undecided: share_at_least and
-- share_at_most are the shares if none, or all, of the undecided had a change. `age_from` 90: 90 years or older.
-- Patients whose level numbering is uncertain count: which level it is does not matter here.
WITH firsts AS (
    SELECT study_key, age_years, sex
    FROM 'studies.parquet'
    WHERE status = 'graded'
    QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY days_since_first_study NULLS LAST, study_key) = 1
),

patients AS (
    SELECT
        firsts.study_key,
        firsts.age_years // 10 * 10 AS age_from,
        firsts.sex,
        coalesce(bool_or(levels.mc = 1), FALSE) AS has_mc1,
        coalesce(bool_or(levels.mc = 2), FALSE) AS has_mc2,
        NOT has_mc1 AND NOT has_mc2 AND bool_or(levels.mc IS NULL) AS undecided
    FROM firsts
    INNER JOIN 'levels.parquet' AS levels ON firsts.study_key = levels.study_key
    GROUP BY firsts.study_key, firsts.age_years, firsts.sex
    HAVING bool_or(levels.status = 'graded')
)

SELECT
    age_from,
    sex,
    count(*) AS n_patients,
    count(*) FILTER (WHERE has_mc1 OR has_mc2) AS n_any_mc,
    count(*) FILTER (WHERE has_mc1) AS n_any_mc1,
    count(*) FILTER (WHERE has_mc2) AS n_any_mc2,
    count(*) FILTER (WHERE undecided) AS n_undecided,
    round(n_any_mc / n_patients, 3) AS share_at_least,
    round((n_any_mc + n_undecided) / n_patients, 3) AS share_at_most
FROM patients
GROUP BY age_from, sex
ORDER BY age_from, sex;
