-- One row is one graded level that abstained with a single possible grade and without a contradiction to the marrow, or
-- did not although several grades or none are possible.
SELECT study_key, level, mc, abstained, abstained_reason, prediction_set
FROM levels
WHERE
    status = 'graded'
    AND (
        coalesce(
            abstained <> (len(prediction_set) <> 1 OR starts_with(coalesce(abstained_reason, ''), 'marrow.')), TRUE
        )
        OR (NOT abstained AND (abstained_reason IS NOT NULL OR coalesce(prediction_set[1] <> mc, TRUE)))
        OR NOT list_has_all([0, 1, 2], prediction_set)
    );
