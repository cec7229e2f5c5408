-- One row is one pair of a patient's studies whose days since the first study contradict their years.
SELECT
    earlier.patient_key,
    earlier.study_key,
    later.study_key AS other_study_key,
    earlier.study_year,
    later.study_year AS other_study_year,
    earlier.days_since_first_study,
    later.days_since_first_study AS other_days_since_first_study
FROM studies AS earlier
INNER JOIN studies AS later ON earlier.patient_key = later.patient_key
WHERE
    earlier.study_year < later.study_year
    AND earlier.days_since_first_study >= later.days_since_first_study;
