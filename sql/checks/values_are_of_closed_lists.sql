-- One row is one value of a column with a closed list that the list (modic/tables/schema.py, CLOSED) does not hold.
WITH found AS (
    SELECT DISTINCT
        'studies' AS table_name,
        unnest(['status', 'reason', 'sex', 'level_numbering']) AS column_name,
        unnest([status, reason, sex, level_numbering]) AS value
    FROM studies
    UNION ALL
    SELECT DISTINCT
        'series' AS table_name,
        unnest(['status', 'reason', 'plane']) AS column_name,
        unnest([status, reason, plane]) AS value
    FROM series
    UNION ALL
    SELECT DISTINCT
        'levels' AS table_name,
        unnest(['status', 'reason', 'level']) AS column_name,
        unnest([status, reason, level]) AS value
    FROM levels
)

SELECT found.table_name, found.column_name, found.value
FROM found
ANTI JOIN closed_lists USING (table_name, column_name, value)
WHERE found.value IS NOT NULL;
