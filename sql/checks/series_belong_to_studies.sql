-- One row is one series whose study is missing.
SELECT series.series_key, series.study_key
FROM series
ANTI JOIN studies ON series.study_key = studies.study_key;
