-- One row is one level of a graded study, the levels of a study from head to foot.
SELECT *
FROM 'levels.parquet'
ORDER BY study_key, list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level);
