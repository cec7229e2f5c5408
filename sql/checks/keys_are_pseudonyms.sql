-- One row is one key that is not a keyed hash: a raw patient id or UID must never be here.
SELECT 'patient' AS kind, patient_key AS key FROM studies WHERE NOT regexp_full_match(patient_key, 'p_[0-9a-f]{16}')
UNION
SELECT 'study', study_key FROM studies WHERE NOT regexp_full_match(study_key, 's_[0-9a-f]{16}')
UNION
SELECT 'series', series_key FROM series WHERE NOT regexp_full_match(series_key, 'r_[0-9a-f]{16}');
