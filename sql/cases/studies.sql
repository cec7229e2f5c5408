-- One row is one study, with what is shown of it, the geometry of its T1 and T2, and its levels from head to foot
-- (each null if the study has none).
WITH levels_of AS (
    SELECT
        study_key,
        list(
            struct_pack(
                level := level,
                status := status,
                reason := reason,
                mc := mc,
                p_mc0 := p_mc0,
                p_mc1 := p_mc1,
                p_mc2 := p_mc2,
                abstained_reason := abstained_reason,
                slice_disagreement := slice_disagreement,
                level_score := level_score
            )
            ORDER BY list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level)
        ) AS levels
    FROM 'levels.parquet'
    GROUP BY study_key
)

SELECT
    studies.study_key,
    studies.run_id,
    studies.status,
    studies.reason,
    studies.detail,
    studies.warnings,
    studies.study_year,
    studies.age_years,
    studies.sex,
    studies.manufacturer,
    studies.scanner_model,
    studies.field_strength_t,
    studies.overlap_fraction,
    studies.level_numbering,
    studies.level_numbering_probability,
    struct_pack(
        pixel_spacing_row_mm := t1.pixel_spacing_row_mm,
        pixel_spacing_column_mm := t1.pixel_spacing_column_mm,
        slice_spacing_mm := t1.slice_spacing_mm,
        n_slices := t1.n_slices
    ) AS t1,
    struct_pack(
        pixel_spacing_row_mm := t2.pixel_spacing_row_mm,
        pixel_spacing_column_mm := t2.pixel_spacing_column_mm,
        slice_spacing_mm := t2.slice_spacing_mm,
        n_slices := t2.n_slices
    ) AS t2,
    levels_of.levels
FROM 'studies.parquet' AS studies
LEFT JOIN levels_of ON studies.study_key = levels_of.study_key
LEFT JOIN 'series.parquet' AS t1 ON studies.t1_series_key = t1.series_key
LEFT JOIN 'series.parquet' AS t2 ON studies.t2_series_key = t2.series_key;
