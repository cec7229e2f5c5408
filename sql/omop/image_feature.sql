-- One row is one number of one graded level, in the columns of MI-CDM; the four of one level are one finding.
-- 1147330 is OMOP's concept of the table `measurement`, which image_feature_event_id points to (MI-CDM, section 7).
SELECT
    measurement_id AS image_feature_id,
    person_id,
    image_occurrence_id,
    1147330 AS image_feature_event_field_concept_id,
    measurement_id AS image_feature_event_id,
    0 AS image_feature_concept_id,
    0 AS image_feature_type_concept_id,
    0 AS image_finding_concept_id,
    finding AS image_finding_id,
    0 AS anatomic_site_concept_id,
    'modic ' || (SELECT latest_run.code_version FROM latest_run) || ', detector ' || detector_id
    || ', classifier ' || classifier_id || ', level ' || level AS alg_system,
    NULL AS alg_datetime
FROM modic_measurements
ORDER BY measurement_id;
