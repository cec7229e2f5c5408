-- One row is one decade of age and sex: patients (first graded study) with Modic change at any decided level.
-- `age_from` 90: 90 years or older.
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
        coalesce(bool_or(levels.abstained), FALSE) AS has_abstentions
    FROM firsts
    INNER JOIN 'levels.parquet' AS levels ON firsts.study_key = levels.study_key
    GROUP BY firsts.study_key, firsts.age_years, firsts.sex
    HAVING count(levels.mc) > 0
)

SELECT
    age_from,
    sex,
    count(*) AS n_patients,
    count(*) FILTER (WHERE has_mc1 OR has_mc2) AS n_any_mc,
    count(*) FILTER (WHERE has_mc1) AS n_any_mc1,
    count(*) FILTER (WHERE has_mc2) AS n_any_mc2,
    count(*) FILTER (WHERE has_abstentions) AS n_with_abstentions,
    round(n_any_mc / n_patients, 3) AS share_any_mc
FROM patients
GROUP BY age_from, sex
ORDER BY age_from, sex;
