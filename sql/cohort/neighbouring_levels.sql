-- One row is one pair of neighbouring levels: how often both have the same grade, and Cohen's kappa of that.
-- Far more agreement than readers find may mean that the model sees the patient or the scanner, not the level.
WITH decided AS (
    SELECT
        study_key,
        level,
        mc,
        list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level) AS place
    FROM 'levels.parquet'
    WHERE mc IS NOT NULL
),

pairs AS (
    SELECT
        upper.place,
        upper.level AS upper_level,
        lower.level AS lower_level,
        upper.mc AS upper_mc,
        lower.mc AS lower_mc
    FROM decided AS upper
    INNER JOIN decided AS lower ON upper.study_key = lower.study_key AND upper.place + 1 = lower.place
),

counts AS (
    SELECT
        place,
        upper_level,
        lower_level,
        count(*) AS n_pairs,
        avg((upper_mc = lower_mc)::INTEGER) AS observed,
        avg((upper_mc = 0)::INTEGER) * avg((lower_mc = 0)::INTEGER)
        + avg((upper_mc = 1)::INTEGER) * avg((lower_mc = 1)::INTEGER)
        + avg((upper_mc = 2)::INTEGER) * avg((lower_mc = 2)::INTEGER) AS expected
    FROM pairs
    GROUP BY place, upper_level, lower_level
)

SELECT
    upper_level,
    lower_level,
    n_pairs,
    round(observed, 3) AS share_same_grade,
    round((observed - expected) / nullif(1 - expected, 0), 3) AS kappa
FROM counts
ORDER BY place;
