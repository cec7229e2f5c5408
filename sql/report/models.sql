-- One row is one pair of networks that graded studies of the tables, and how many.
SELECT
    detector_id,
    classifier_id,
    normalization,
    count(DISTINCT study_key) AS n_studies
FROM 'levels.parquet'
GROUP BY detector_id, classifier_id, normalization
ORDER BY n_studies DESC, detector_id, classifier_id;
