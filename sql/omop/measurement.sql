-- One row is one number of one graded level, in the columns of OMOP CDM 5.4. The date is empty: modic keeps none.
SELECT
    measurement_id,
    person_id,
    0 AS measurement_concept_id,
    NULL AS measurement_date,
    NULL AS measurement_datetime,
    NULL AS measurement_time,
    0 AS measurement_type_concept_id,
    NULL AS operator_concept_id,
    value AS value_as_number,
    CASE WHEN value_as_text IS NOT NULL THEN 0 END AS value_as_concept_id,
    NULL AS unit_concept_id,
    NULL AS range_low,
    NULL AS range_high,
    NULL AS provider_id,
    NULL AS visit_occurrence_id,
    NULL AS visit_detail_id,
    source_value AS measurement_source_value,
    0 AS measurement_source_concept_id,
    NULL AS unit_source_value,
    NULL AS unit_source_concept_id,
    value_as_text AS value_source_value,
    NULL AS measurement_event_id,
    NULL AS meas_event_field_concept_id
FROM modic_measurements
ORDER BY measurement_id;
