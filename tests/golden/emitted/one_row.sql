-- fold core
SELECT CAST(count(*) AS BIGINT) AS "_count_0", CAST(max("sales"."ts") AS TIMESTAMP) AS "_max_1" FROM counted AS "sales"

-- merge core
SELECT CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(max("_max_1") AS TIMESTAMP) AS "_max_1" FROM parts

-- present
SELECT CAST(_call_0 AS BIGINT) AS "n", CAST(_call_1 AS TIMESTAMP) AS "last"
FROM (SELECT CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_0, CAST("_max_1" AS TIMESTAMP) AS _call_1 FROM merged)
