-- One row is one graded level without its box on T2, on T1 or in millimetres, or with one turned inside out.
SELECT study_key, level, t2_x0, t2_y0, t2_x1, t2_y1, t2_slice, t1_x0, t1_y0, t1_x1, t1_y1, t1_slice
FROM levels
WHERE
    status = 'graded'
    AND NOT coalesce(
        t2_x0 < t2_x1 AND t2_y0 < t2_y1 AND t2_slice >= 0
        AND t1_x0 < t1_x1 AND t1_y0 < t1_y1 AND t1_slice >= 0
        AND isfinite(mm_x0 + mm_y0 + mm_z0 + mm_x1 + mm_y1 + mm_z1),
        FALSE
    );
