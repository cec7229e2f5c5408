-- One row is one number of one graded level: its grade, or one of its three probabilities.
CREATE OR REPLACE VIEW modic_measurements AS
WITH numbers AS (
    SELECT
        study_key,
        patient_key,
        level,
        detector_id,
        classifier_id,
        run_id,
        list_position(['T12/L1', 'L1/L2', 'L2/L3', 'L3/L4', 'L4/L5', 'L5/S1'], level) AS place,
        unnest(['modic.mc', 'modic.p_mc0', 'modic.p_mc1', 'modic.p_mc2']) AS source_value,
        unnest([mc::DOUBLE, p_mc0::DOUBLE, p_mc1::DOUBLE, p_mc2::DOUBLE]) AS value,
        unnest([CASE WHEN abstained THEN 'abstained' ELSE 'MC' || mc END, NULL, NULL, NULL]) AS value_as_text
    FROM 'levels.parquet'
    WHERE status = 'graded'
)

SELECT
    row_number() OVER (ORDER BY numbers.study_key, numbers.place, numbers.source_value) AS measurement_id,
    persons.person_id,
    numbers.*,
    dense_rank() OVER (ORDER BY numbers.study_key, numbers.place) AS finding,
    images.image_occurrence_id
FROM numbers
INNER JOIN modic_persons AS persons ON numbers.patient_key = persons.patient_key
INNER JOIN 'studies.parquet' AS studies ON numbers.study_key = studies.study_key
INNER JOIN modic_images AS images ON studies.t2_series_key = images.series_key;
