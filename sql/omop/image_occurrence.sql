-- One row is one series that a grade rests on, in the columns of MI-CDM. A site adds procedure and date.
SELECT
    image_occurrence_id,
    person_id,
    NULL AS procedure_occurrence_id,
    NULL AS visit_occurrence_id,
    0 AS anatomic_site_concept_id,
    NULL AS wadors_uri,
    NULL AS local_path,
    NULL AS image_occurrence_date,
    study_key AS image_study_uid,
    series_key AS image_series_uid,
    0 AS modality_concept_id
FROM modic_images
ORDER BY image_occurrence_id;
