-- One row is one level that does not lie below the level above it, in patient millimetres.
WITH centres AS (
    SELECT
        study_key,
        level,
        (mm_z0 + mm_z1) / 2 AS centre_z_mm,
        list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level) AS place
    FROM levels
    WHERE mm_z0 IS NOT NULL
)

SELECT
    study_key,
    level,
    centre_z_mm,
    lag(level) OVER (PARTITION BY study_key ORDER BY place) AS level_above,
    lag(centre_z_mm) OVER (PARTITION BY study_key ORDER BY place) AS centre_above_z_mm
FROM centres
QUALIFY centre_above_z_mm <= centre_z_mm;
