-- One row is one patient: how many studies, and what the first graded one shows. any_mc, any_mc1 and any_mc2 are true
-- if a level has such a grade, false if all six levels have other grades, and null if nothing was found and a level was
-- not decided (abstained, not found, unreadable).
CREATE OR REPLACE VIEW patients AS
WITH grades AS (
    SELECT
        study_key,
        count(mc) AS n_levels_decided,
        count(*) FILTER (WHERE abstained) AS n_levels_abstained,
        count(*) FILTER (WHERE mc = 1) AS n_levels_mc1,
        count(*) FILTER (WHERE mc = 2) AS n_levels_mc2,
        bool_or(mc > 0) OR (bool_or(mc IS NULL) AND NULL) AS any_mc,
        bool_or(mc = 1) OR (bool_or(mc IS NULL) AND NULL) AS any_mc1,
        bool_or(mc = 2) OR (bool_or(mc IS NULL) AND NULL) AS any_mc2
    FROM 'levels.parquet'
    GROUP BY study_key
),

counts AS (
    SELECT
        patient_key,
        count(*) AS n_studies,
        count(*) FILTER (WHERE status = 'graded') AS n_studies_graded
    FROM 'studies.parquet'
    GROUP BY patient_key
)

SELECT
    counts.patient_key,
    counts.n_studies,
    counts.n_studies_graded,
    firsts.study_key AS first_graded_study_key,
    firsts.study_year,
    firsts.age_years,
    firsts.sex,
    firsts.level_numbering,
    grades.n_levels_decided,
    grades.n_levels_abstained,
    grades.n_levels_mc1,
    grades.n_levels_mc2,
    grades.any_mc,
    grades.any_mc1,
    grades.any_mc2
FROM counts
LEFT JOIN first_graded_studies AS firsts ON counts.patient_key = firsts.patient_key
LEFT JOIN grades ON firsts.study_key = grades.study_key;
