-- One row is one patient: how many studies, and what the first graded one shows.
CREATE OR REPLACE VIEW patients AS
WITH grades AS (
    SELECT
        study_key,
        count(mc) AS n_levels_decided,
        count(*) FILTER (WHERE abstained) AS n_levels_abstained,
        count(*) FILTER (WHERE mc = 1) AS n_levels_mc1,
        count(*) FILTER (WHERE mc = 2) AS n_levels_mc2
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
    grades.n_levels_mc1 + grades.n_levels_mc2 > 0 AS any_mc
FROM counts
LEFT JOIN first_graded_studies AS firsts ON counts.patient_key = firsts.patient_key
LEFT JOIN grades ON firsts.study_key = grades.study_key;
