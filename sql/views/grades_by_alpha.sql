-- One row is one graded level at one risk alpha: the grade that it would have (null: abstained), from its probabilities
-- and the thresholds that its run published. Ask for one alpha: FROM grades_by_alpha WHERE alpha = 0.05. A grade that
-- contradicts the marrow stays taken back; levels that abstained for their prediction set are not compared with the
-- marrow, so a run at that alpha can differ. expected_wrong: share of sure grades at this alpha that were wrong on the
-- patients of the classifier's card, out of fold and without the marrow rules; null where the card did not count it.
-- Levels of runs that published no thresholds are not here.
CREATE OR REPLACE VIEW grades_by_alpha AS
WITH of_runs AS (
    SELECT
        run_id,
        unnest(
            from_json(conformal_thresholds, '[{"alpha": "DOUBLE", "q": "DOUBLE[]", "wrong": "DOUBLE"}]'),
            recursive := TRUE
        )
    FROM 'runs.parquet'
    WHERE conformal_thresholds IS NOT NULL
),

thresholds AS (
    SELECT
        run_id,
        alpha,
        wrong,
        q[1] + 1e-7 AS q_mc0,
        q[2] + 1e-7 AS q_mc1,
        q[3] + 1e-7 AS q_mc2
    FROM of_runs
),

sets AS (
    SELECT
        levels.* EXCLUDE (mc, abstained),  -- noqa: RF02
        thresholds.alpha,
        thresholds.wrong,
        1 - levels.p_mc0::DOUBLE <= thresholds.q_mc0 AS admits_mc0,
        1 - levels.p_mc1::DOUBLE <= thresholds.q_mc1 AS admits_mc1,
        1 - levels.p_mc2::DOUBLE <= thresholds.q_mc2 AS admits_mc2
    FROM 'levels.parquet' AS levels
    INNER JOIN thresholds ON levels.run_id = thresholds.run_id
    WHERE levels.status = 'graded'
)

SELECT
    study_key,
    patient_key,
    level,
    alpha,
    CASE
        WHEN starts_with(coalesce(abstained_reason, ''), 'marrow.') THEN NULL
        WHEN admits_mc0 AND NOT admits_mc1 AND NOT admits_mc2 AND p_mc0 >= greatest(p_mc1, p_mc2) THEN 0
        WHEN admits_mc1 AND NOT admits_mc0 AND NOT admits_mc2 AND p_mc1 > p_mc0 AND p_mc1 >= p_mc2 THEN 1
        WHEN admits_mc2 AND NOT admits_mc0 AND NOT admits_mc1 AND p_mc2 > greatest(p_mc0, p_mc1) THEN 2
    END::TINYINT AS mc,
    mc IS NULL AS abstained,
    wrong AS expected_wrong,
    p_mc0,
    p_mc1,
    p_mc2,
    run_id
FROM sets;
