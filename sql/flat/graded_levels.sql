-- One row is one graded level (the view graded_levels) with the types and extents of its endplates.
SELECT
    graded.*,
    levels.mc_upper,
    levels.udby_upper,
    levels.mc_lower,
    levels.udby_lower
FROM (SELECT * EXCLUDE (prediction_set) FROM graded_levels) AS graded
INNER JOIN 'levels.parquet' AS levels ON graded.study_key = levels.study_key AND graded.level = levels.level
ORDER BY
    graded.patient_key,
    graded.study_key,
    list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], graded.level);
