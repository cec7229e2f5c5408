-- One row is one study, with what makes it an outlier first: `kind` (its place in modic.cases.outliers.KINDS, pictures
-- left out; null if nothing does) and `extent` (larger is more extreme).
WITH of_levels AS (
    SELECT
        study_key,
        max(p_mc1::DOUBLE) FILTER (
            p_mc0 IS NOT NULL
            AND p_mc1 IS NOT NULL
            AND p_mc2 IS NOT NULL
            AND (mc = 1 OR (mc IS NULL AND p_mc1 = greatest(p_mc0, p_mc1, p_mc2)))
        ) AS p_mc1,
        count(*) FILTER (
            abstained_reason IN ('marrow.t1_dark', 'marrow.t1_bright', 'marrow.like_type_1')
        ) AS contradicted,
        max(slice_disagreement::DOUBLE) AS apart,
        min(level_score::DOUBLE) FILTER (status = 'graded') AS score
    FROM 'levels.parquet'
    GROUP BY study_key
),

of_series AS (
    SELECT
        series_key,
        coalesce(greatest(pixel_spacing_row_mm, pixel_spacing_column_mm)::DOUBLE > 1.2::DOUBLE, FALSE)::INTEGER
        + coalesce(slice_spacing_mm::DOUBLE > 6.0::DOUBLE, FALSE)::INTEGER
        + coalesce(n_slices < 9, FALSE)::INTEGER AS odd
    FROM 'series.parquet'
),

of_studies AS (
    SELECT
        studies.study_key,
        studies.run_id,
        studies.status,
        of_levels.p_mc1,
        of_levels.contradicted,
        of_levels.apart,
        of_levels.score,
        studies.level_numbering = 'uncertain' AS uncertain,
        coalesce(studies.level_numbering_probability, 0)::DOUBLE AS p_numbering,
        coalesce(t1.odd, 0)
        + coalesce(t2.odd, 0)
        + coalesce(studies.overlap_fraction::DOUBLE < 0.98::DOUBLE, FALSE)::INTEGER
        + coalesce(len(string_split(nullif(studies.warnings, ''), '; ')), 0)
        - coalesce(len(regexp_extract_all(studies.warnings, '(^|; )no pictures')), 0) AS odd
    FROM 'studies.parquet' AS studies
    LEFT JOIN of_levels ON studies.study_key = of_levels.study_key
    LEFT JOIN of_series AS t1 ON studies.t1_series_key = t1.series_key
    LEFT JOIN of_series AS t2 ON studies.t2_series_key = t2.series_key
),

of_kinds AS (
    SELECT
        *,
        CASE
            WHEN status <> 'graded' THEN NULL
            WHEN p_mc1 IS NOT NULL THEN 0
            WHEN contradicted > 0 THEN 1
            WHEN uncertain THEN 2
            WHEN apart >= 0.7::DOUBLE THEN 3
            WHEN score < 0.6::DOUBLE THEN 4
            WHEN odd > 0 THEN 5
        END AS kind
    FROM of_studies
)

SELECT
    study_key,
    run_id,
    status,
    kind,
    CASE kind
        WHEN 0 THEN p_mc1
        WHEN 1 THEN contradicted::DOUBLE
        WHEN 2 THEN 1 - p_numbering
        WHEN 3 THEN apart
        WHEN 4 THEN 1 - score
        WHEN 5 THEN odd::DOUBLE
    END AS extent
FROM of_kinds;
