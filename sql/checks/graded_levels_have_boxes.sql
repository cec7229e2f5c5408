-- One row is one graded level without its box on T2 (if there is one), on T1 or in mm, or with one turned inside out.
SELECT
    levels.study_key, levels.level, levels.t2_x0, levels.t2_y0, levels.t2_x1, levels.t2_y1, levels.t2_slice,
    levels.t1_x0, levels.t1_y0, levels.t1_x1, levels.t1_y1, levels.t1_slice
FROM levels
LEFT JOIN studies ON levels.study_key = studies.study_key
WHERE
    levels.status = 'graded'
    AND NOT coalesce(
        (studies.t2_series_key IS NULL AND studies.stir_series_key IS NOT NULL)
        OR (levels.t2_x0 < levels.t2_x1 AND levels.t2_y0 < levels.t2_y1 AND levels.t2_slice >= 0),
        FALSE
    )
    OR levels.status = 'graded'
    AND NOT coalesce(
        levels.t1_x0 < levels.t1_x1 AND levels.t1_y0 < levels.t1_y1 AND levels.t1_slice >= 0
        AND isfinite(levels.mm_x0 + levels.mm_y0 + levels.mm_z0 + levels.mm_x1 + levels.mm_y1 + levels.mm_z1),
        FALSE
    );
