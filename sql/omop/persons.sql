-- One row is one patient: number in the other files, key in the cohort, and the person in the CDM, for a site to add.
SELECT
    person_id,
    patient_key,
    NULL AS cdm_person_id
FROM modic_persons
ORDER BY person_id;
