-- One row is one graded level that abstained with a single possible grade, or did not with several or none.
SELECT study_key, level, mc, abstained, prediction_set
FROM levels
WHERE
    status = 'graded'
    AND (
        coalesce(abstained <> (len(prediction_set) <> 1), TRUE)
        OR (NOT abstained AND coalesce(prediction_set[1] <> mc, TRUE))
        OR NOT list_has_all([0, 1, 2], prediction_set)
    );
