-- One row is one risk alpha (how often a prediction set may miss the true grade): levels graded, how many of them would
-- have a sure grade, their share, how many of each grade, and what share of sure grades was wrong on the patients of
-- the classifier's card (expected_wrong; another hospital's may be more, see modic validate).
CREATE OR REPLACE VIEW yield_by_alpha AS
SELECT
    alpha,
    count(*) AS n_levels,
    count(mc) AS n_sure,
    round(count(mc) / count(*), 3) AS share_sure,
    count(*) FILTER (mc = 0) AS n_mc0,
    count(*) FILTER (mc = 1) AS n_mc1,
    count(*) FILTER (mc = 2) AS n_mc2,
    round(avg(expected_wrong), 3) AS expected_wrong
FROM grades_by_alpha
GROUP BY alpha
ORDER BY alpha;
