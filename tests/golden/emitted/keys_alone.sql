-- fold core
SELECT "sales"."shop" AS "shop", CAST("sales"."ts" AS DATE) AS "day", CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "sales" GROUP BY 1, 2

-- merge core
SELECT "shop", "day", CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts GROUP BY "shop", "day"

-- present
SELECT CAST("shop" AS VARCHAR) AS "shop", CAST("day" AS DATE) AS "day"
FROM (SELECT "shop", "day" FROM merged)
