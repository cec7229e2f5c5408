-- One row is one study that is not graded and has no reason, or is graded and has one.
SELECT study_key, status, reason
FROM studies
WHERE (status = 'graded') <> (reason IS NULL);
