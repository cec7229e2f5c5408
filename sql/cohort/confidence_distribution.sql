-- One row is one tenth of confidence: how many graded levels have it, and their grades.
-- Probabilities are calibrated for grades that are equally frequent; see the classifier's card.
SELECT
    least(floor(confidence * 10) / 10, 0.9)::DECIMAL(2, 1) AS confidence_from,
    count(*) AS n_levels,
    count(*) FILTER (WHERE abstained) AS n_abstained,
    count(*) FILTER (WHERE mc = 0) AS n_mc0,
    count(*) FILTER (WHERE mc = 1) AS n_mc1,
    count(*) FILTER (WHERE mc = 2) AS n_mc2,
    round(avg(confidence), 3) AS mean_confidence
FROM 'levels.parquet'
WHERE status = 'graded'
GROUP BY confidence_from
ORDER BY confidence_from;
