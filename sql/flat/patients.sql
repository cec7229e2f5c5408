-- One row is one patient with a graded study (the view patients), with the grade of each level of the first one.
SELECT
    patients.*,
    max(levels.mc) FILTER (WHERE levels.level = 'T12/L1') AS mc_t12_l1,
    max(levels.mc) FILTER (WHERE levels.level = 'L1/L2') AS mc_l1_l2,
    max(levels.mc) FILTER (WHERE levels.level = 'L2/L3') AS mc_l2_l3,
    max(levels.mc) FILTER (WHERE levels.level = 'L3/L4') AS mc_l3_l4,
    max(levels.mc) FILTER (WHERE levels.level = 'L4/L5') AS mc_l4_l5,
    max(levels.mc) FILTER (WHERE levels.level = 'L5/S1') AS mc_l5_s1
FROM patients
INNER JOIN 'levels.parquet' AS levels ON patients.first_graded_study_key = levels.study_key
GROUP BY ALL
ORDER BY patients.patient_key;
