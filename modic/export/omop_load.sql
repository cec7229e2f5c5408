-- Loads the files beside this one into OMOP CDM 5.4 with the imaging extension (MI-CDM), on PostgreSQL.
-- First fill in cdm_person_id in persons.csv, and cdm_date (YYYY-MM-DD) and cdm_procedure_occurrence_id in
-- image_keys.csv: OMOP requires them. Where one is missing, nothing at all is inserted. Then, in this folder:
--   PGOPTIONS='-c search_path=SCHEMA_OF_THE_CDM' psql -v ON_ERROR_STOP=1 -f load.sql DATABASE

BEGIN;

CREATE TEMPORARY TABLE modic_persons (person_id integer, patient_key text, cdm_person_id integer);
CREATE TEMPORARY TABLE modic_image_keys (
    image_occurrence_id integer, study_key text, series_key text, role text, manufacturer text, scanner_model text,
    field_strength_t text, study_year integer, days_since_first_study integer, cdm_date date,
    cdm_procedure_occurrence_id integer
);
CREATE TEMPORARY TABLE modic_image_occurrence AS SELECT * FROM image_occurrence WITH NO DATA;
CREATE TEMPORARY TABLE modic_measurement AS SELECT * FROM measurement WITH NO DATA;
CREATE TEMPORARY TABLE modic_image_feature AS SELECT * FROM image_feature WITH NO DATA;

\copy modic_persons FROM 'persons.csv' WITH (FORMAT csv, HEADER true)
\copy modic_image_keys FROM 'image_keys.csv' WITH (FORMAT csv, HEADER true)
\copy modic_image_occurrence (image_occurrence_id, person_id, procedure_occurrence_id, visit_occurrence_id, anatomic_site_concept_id, wadors_uri, local_path, image_occurrence_date, image_study_uid, image_series_uid, modality_concept_id) FROM 'image_occurrence.csv' WITH (FORMAT csv, HEADER true)
\copy modic_measurement (measurement_id, person_id, measurement_concept_id, measurement_date, measurement_datetime, measurement_time, measurement_type_concept_id, operator_concept_id, value_as_number, value_as_concept_id, unit_concept_id, range_low, range_high, provider_id, visit_occurrence_id, visit_detail_id, measurement_source_value, measurement_source_concept_id, unit_source_value, unit_source_concept_id, value_source_value, measurement_event_id, meas_event_field_concept_id) FROM 'measurement.csv' WITH (FORMAT csv, HEADER true)
\copy modic_image_feature (image_feature_id, person_id, image_occurrence_id, image_feature_event_field_concept_id, image_feature_event_id, image_feature_concept_id, image_feature_type_concept_id, image_finding_concept_id, image_finding_id, anatomic_site_concept_id, alg_system, alg_datetime) FROM 'image_feature.csv' WITH (FORMAT csv, HEADER true)

-- ids go on where those of the database end
CREATE TEMPORARY TABLE modic_first AS
SELECT
    (SELECT coalesce(max(image_occurrence_id), 0) FROM image_occurrence) AS image,
    (SELECT coalesce(max(measurement_id), 0) FROM measurement) AS measured,
    (SELECT coalesce(max(image_feature_id), 0) FROM image_feature) AS feature,
    (SELECT coalesce(max(image_finding_id), 0) FROM image_feature) AS finding;

INSERT INTO image_occurrence (
    image_occurrence_id, person_id, procedure_occurrence_id, anatomic_site_concept_id, image_occurrence_date,
    image_study_uid, image_series_uid, modality_concept_id
)
SELECT
    ids.image + own.image_occurrence_id, persons.cdm_person_id, images.cdm_procedure_occurrence_id,
    own.anatomic_site_concept_id, images.cdm_date, own.image_study_uid, own.image_series_uid, own.modality_concept_id
FROM modic_image_occurrence AS own
LEFT JOIN modic_persons AS persons ON persons.person_id = own.person_id
LEFT JOIN modic_image_keys AS images ON images.image_occurrence_id = own.image_occurrence_id
CROSS JOIN modic_first AS ids;

INSERT INTO measurement (
    measurement_id, person_id, measurement_concept_id, measurement_date, measurement_type_concept_id, value_as_number,
    value_as_concept_id, measurement_source_value, measurement_source_concept_id, value_source_value
)
SELECT
    ids.measured + own.measurement_id, persons.cdm_person_id, own.measurement_concept_id, images.cdm_date,
    own.measurement_type_concept_id, own.value_as_number, own.value_as_concept_id, own.measurement_source_value,
    own.measurement_source_concept_id, own.value_source_value
FROM modic_measurement AS own
LEFT JOIN modic_persons AS persons ON persons.person_id = own.person_id
LEFT JOIN modic_image_feature AS feature ON feature.image_feature_event_id = own.measurement_id
LEFT JOIN modic_image_keys AS images ON images.image_occurrence_id = feature.image_occurrence_id
CROSS JOIN modic_first AS ids;

INSERT INTO image_feature (
    image_feature_id, person_id, image_occurrence_id, image_feature_event_field_concept_id, image_feature_event_id,
    image_feature_concept_id, image_feature_type_concept_id, image_finding_concept_id, image_finding_id,
    anatomic_site_concept_id, alg_system
)
SELECT
    ids.feature + own.image_feature_id, persons.cdm_person_id, ids.image + own.image_occurrence_id,
    own.image_feature_event_field_concept_id, ids.measured + own.image_feature_event_id, own.image_feature_concept_id,
    own.image_feature_type_concept_id, own.image_finding_concept_id, ids.finding + own.image_finding_id,
    own.anatomic_site_concept_id, own.alg_system
FROM modic_image_feature AS own
LEFT JOIN modic_persons AS persons ON persons.person_id = own.person_id
CROSS JOIN modic_first AS ids;

COMMIT;
