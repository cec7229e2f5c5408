-- One row is one number of levels with Modic change, and the patients (first graded study) who have so many.
SELECT
    n_levels_mc1 + n_levels_mc2 AS n_levels_with_mc,
    count(*) AS n_patients,
    count(*) FILTER (WHERE n_levels_mc1 > 0 AND n_levels_mc2 > 0) AS n_with_both_types,
    count(*) FILTER (WHERE n_levels_abstained > 0) AS n_with_abstentions
FROM patients
WHERE n_studies_graded > 0
GROUP BY n_levels_with_mc
ORDER BY n_levels_with_mc;
