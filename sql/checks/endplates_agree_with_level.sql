-- One row is one level whose grade does not follow from the types at its endplates, or that has an extent without a
-- change (modic/grading/endplate_types.py).
SELECT study_key, level, mc, mc_upper, udby_upper, mc_lower, udby_lower
FROM levels
WHERE
    (mc IS NULL AND (mc_upper IS NOT NULL OR mc_lower IS NOT NULL))
    OR (mc = 0 AND (mc_upper <> '0' OR mc_lower <> '0'))
    OR (
        mc IN (1, 2)
        AND coalesce(mc_upper, mc_lower) IS NOT NULL
        AND coalesce(mc_upper NOT IN (mc::VARCHAR, '1/2'), TRUE)
        AND coalesce(mc_lower NOT IN (mc::VARCHAR, '1/2'), TRUE)
    )
    OR (udby_upper IS NOT NULL AND coalesce(mc_upper = '0', TRUE))
    OR (udby_lower IS NOT NULL AND coalesce(mc_lower = '0', TRUE));
