-- One row is one study, with the geometry of its T1 and of its T2 (null if the study has none).
SELECT
    studies.*,
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
    ) AS t2
FROM 'studies.parquet' AS studies
LEFT JOIN 'series.parquet' AS t1 ON studies.t1_series_key = t1.series_key
LEFT JOIN 'series.parquet' AS t2 ON studies.t2_series_key = t2.series_key
ORDER BY studies.study_key;
