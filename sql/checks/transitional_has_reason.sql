-- One row is one study whose transitional columns contradict each other: a suspicion without probability or reason, a
-- reason without a suspicion (but that the sacrum is not in view), a count from C2 that disagrees with sure names or is
-- what they rest on, or any of them in a study that is not graded.
SELECT
    study_key, status, level_numbering, numbering_basis, transitional_suspected, transitional_probability,
    transitional_reason
FROM studies
WHERE
    (transitional_suspected AND (transitional_probability IS NULL OR transitional_reason IS NULL))
    OR (NOT transitional_suspected AND (transitional_probability IS NULL OR transitional_reason IS NOT NULL))
    OR (transitional_suspected IS NULL AND coalesce(transitional_reason, '') NOT IN ('', 'sacrum not in view'))
    OR (
        transitional_reason = 'count from C2 disagrees'
        AND (level_numbering = 'ok' OR numbering_basis = 'count from C2')
    )
    OR (status <> 'graded' AND coalesce(numbering_basis, transitional_reason) IS NOT NULL);
