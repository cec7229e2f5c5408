-- One row is one kind of scanner: its studies by status, and how often grading was unsure.
CREATE OR REPLACE VIEW scanners AS
WITH unsure AS (
    SELECT
        study_key,
        count(*) FILTER (WHERE status = 'graded') AS n_levels_graded,
        count(*) FILTER (WHERE abstained) AS n_levels_abstained,
        count(*) FILTER (WHERE status = 'not_found') AS n_levels_not_found
    FROM 'levels.parquet'
    GROUP BY study_key
)

SELECT
    studies.manufacturer,
    studies.scanner_model,
    studies.field_strength_t,
    count(*) AS n_studies,
    count(*) FILTER (WHERE studies.status = 'graded') AS n_graded,
    count(*) FILTER (WHERE studies.status = 'excluded') AS n_excluded,
    count(*) FILTER (WHERE studies.status = 'failed') AS n_failed,
    count(*) FILTER (WHERE studies.level_numbering = 'uncertain') AS n_uncertain_numbering,
    coalesce(sum(unsure.n_levels_graded), 0)::BIGINT AS n_levels_graded,
    coalesce(sum(unsure.n_levels_abstained), 0)::BIGINT AS n_levels_abstained,
    coalesce(sum(unsure.n_levels_not_found), 0)::BIGINT AS n_levels_not_found
FROM 'studies.parquet' AS studies
LEFT JOIN unsure ON studies.study_key = unsure.study_key
GROUP BY studies.manufacturer, studies.scanner_model, studies.field_strength_t
ORDER BY n_studies DESC, studies.manufacturer, studies.scanner_model, studies.field_strength_t;
