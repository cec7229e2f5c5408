-- One row is one study whose transitional columns contradict each other: a suspicion without probability or reason, a
-- reason without a suspicion (but that the sacrum is not in view), or any of them in a study that is not graded.
SELECT study_key, status, transitional_suspected, transitional_probability, transitional_reason
FROM studies
WHERE
    (transitional_suspected AND (transitional_probability IS NULL OR transitional_reason IS NULL))
    OR (NOT transitional_suspected AND (transitional_probability IS NULL OR transitional_reason IS NOT NULL))
    OR (transitional_suspected IS NULL AND coalesce(transitional_reason, '') NOT IN ('', 'sacrum not in view'))
    OR (status <> 'graded' AND coalesce(numbering_basis, transitional_reason) IS NOT NULL);
