-- fold core
SELECT "visits"."day" AS "day", "visits"."late" AS "late", CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "visits" GROUP BY 1, 2

-- merge core
SELECT "day", "late", CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts GROUP BY "day", "late"

-- present
SELECT CAST("day" AS DATE) AS "day", CAST("late" AS BOOLEAN) AS "late", CAST(_call_0 AS BIGINT) AS "n"
FROM (SELECT "day", "late", CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_0 FROM merged)
