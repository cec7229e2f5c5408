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

levels AS (  -- what no alpha changes is found once
    SELECT
        * EXCLUDE (mc, abstained),
        1 - p_mc0::DOUBLE AS apart_mc0,
        1 - p_mc1::DOUBLE AS apart_mc1,
        1 - p_mc2::DOUBLE AS apart_mc2,
        starts_with(coalesce(abstained_reason, ''), 'marrow.') AS taken_back,
        CASE
            WHEN p_mc0 >= greatest(p_mc1, p_mc2) THEN 0
            WHEN p_mc1 >= p_mc2 THEN 1
            ELSE 2
        END::TINYINT AS likeliest
    FROM 'levels.parquet'
    WHERE status = 'graded'
),

sets AS (
    SELECT
        levels.*,  -- noqa: RF02
        thresholds.alpha,
        thresholds.wrong,
        levels.apart_mc0 <= thresholds.q_mc0 AS admits_mc0,
        levels.apart_mc1 <= thresholds.q_mc1 AS admits_mc1,
        levels.apart_mc2 <= thresholds.q_mc2 AS admits_mc2
    FROM levels
    INNER JOIN thresholds ON levels.run_id = thresholds.run_id
)

SELECT
    study_key,
    patient_key,
    level,
    alpha,
    CASE
        WHEN
            NOT taken_back
            AND admits_mc0 = (likeliest = 0) AND admits_mc1 = (likeliest = 1) AND admits_mc2 = (likeliest = 2)
            THEN likeliest
    END AS mc,
    mc IS NULL AS abstained,
    wrong AS expected_wrong,
    p_mc0,
    p_mc1,
    p_mc2,
    run_id
FROM sets;
