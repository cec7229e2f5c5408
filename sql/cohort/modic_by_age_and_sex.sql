-- One row is one decade of age and sex: patients (first graded study) with Modic change at any decided level.
-- Patients whose level numbering is uncertain count: which level it is does not matter here.
SELECT
    age_years // 10 * 10 AS age_from,
    sex,
    count(*) AS n_patients,
    count(*) FILTER (WHERE any_mc) AS n_any_mc,
    count(*) FILTER (WHERE n_levels_mc1 > 0) AS n_any_mc1,
    count(*) FILTER (WHERE n_levels_mc2 > 0) AS n_any_mc2,
    count(*) FILTER (WHERE n_levels_abstained > 0) AS n_with_abstentions,
    round(n_any_mc / n_patients, 3) AS share_any_mc
FROM patients
WHERE n_studies_graded > 0 AND n_levels_decided > 0
GROUP BY age_from, sex
ORDER BY age_from, sex;
