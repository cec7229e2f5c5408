-- One row is one study, with hashes of the rows that the page of cases shows of it: its own, those of its levels, and
-- those of its T1 and T2. If none differs from those of an earlier report, its part of the page is the same.
WITH of_levels AS (
    SELECT
        study_key,
        bit_xor(hash(levels)) AS digest
    FROM 'levels.parquet' AS levels -- noqa: AL05
    GROUP BY study_key
)

SELECT
    studies.study_key,
    concat_ws(' ', hash(studies), of_levels.digest, hash(t1), hash(t2)) AS state -- noqa: RF02
FROM 'studies.parquet' AS studies
LEFT JOIN of_levels ON studies.study_key = of_levels.study_key
LEFT JOIN 'series.parquet' AS t1 ON studies.t1_series_key = t1.series_key
LEFT JOIN 'series.parquet' AS t2 ON studies.t2_series_key = t2.series_key;
