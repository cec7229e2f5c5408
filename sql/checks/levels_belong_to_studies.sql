-- One row is one level whose study is missing, or is another patient's.
SELECT levels.study_key, levels.level, levels.patient_key, studies.patient_key AS patient_key_of_study
FROM levels
LEFT JOIN studies ON levels.study_key = studies.study_key
WHERE studies.study_key IS NULL OR levels.patient_key <> studies.patient_key;
