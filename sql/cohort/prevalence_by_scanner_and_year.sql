-- One row is one kind of scanner and one year: levels of patients' first graded studies, and their grades.
-- A difference between scanners or years more often lies in the images than in the patients.
WITH firsts AS (
    SELECT study_key, study_year, manufacturer, scanner_model, field_strength_t
    FROM 'studies.parquet'
    WHERE status = 'graded'
    QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY days_since_first_study NULLS LAST, study_key) = 1
)

SELECT
    firsts.manufacturer,
    firsts.scanner_model,
    firsts.field_strength_t,
    firsts.study_year,
    count(DISTINCT firsts.study_key) AS n_patients,
    count(levels.mc) AS n_levels_decided,
    count(*) FILTER (WHERE levels.abstained) AS n_levels_abstained,
    count(*) FILTER (WHERE levels.status <> 'graded') AS n_levels_not_graded,
    count(*) FILTER (WHERE levels.mc = 1) AS n_mc1,
    count(*) FILTER (WHERE levels.mc = 2) AS n_mc2,
    round(n_mc1 / nullif(n_levels_decided, 0), 3) AS share_mc1,
    round(n_mc2 / nullif(n_levels_decided, 0), 3) AS share_mc2
FROM firsts
INNER JOIN 'levels.parquet' AS levels ON firsts.study_key = levels.study_key
GROUP BY firsts.manufacturer, firsts.scanner_model, firsts.field_strength_t, firsts.study_year
ORDER BY firsts.manufacturer, firsts.scanner_model, firsts.field_strength_t, firsts.study_year;
