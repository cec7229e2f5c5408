-- One row is one level of the demo's graded studies, with how many grades are those of the synthetic spines.
-- The variables `links` and `truth` are the paths of private/links.parquet and of the true grades, a CSV.
WITH links AS (SELECT DISTINCT study_key, studyinstanceuid AS study_uid FROM read_parquet(getvariable('links')))

SELECT
    levels.level,
    count(*) AS graded,
    count(levels.mc) AS sure,
    count(*) FILTER (WHERE levels.mc = truth.mc) AS grades_right,
    count(*) FILTER (WHERE levels.mc <> truth.mc) AS grades_wrong
FROM levels
INNER JOIN links ON levels.study_key = links.study_key
INNER JOIN read_csv(getvariable('truth')) AS truth
    ON links.study_uid = truth.study_uid AND levels.level = truth.level
WHERE levels.status = 'graded'
GROUP BY levels.level
ORDER BY array_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], levels.level);
