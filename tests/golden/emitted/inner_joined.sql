-- fold core
SELECT "s"."city" AS "town", CAST(count(*) AS BIGINT) AS "_count_0", CAST(sum("v"."price") AS DECIMAL(38,2)) AS "_sum_1", CAST(sum(LENGTH("s"."city")) AS DECIMAL(38,0)) AS "_sum_2" FROM counted AS "v" JOIN reference_shops_d30c138f113134e9 AS "s" ON "v"."shop" = "s"."shop" WHERE NOT "s"."city" IS NULL GROUP BY 1

-- merge core
SELECT "town", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_sum_1") AS DECIMAL(38,2)) AS "_sum_1", CAST(sum("_sum_2") AS DECIMAL(38,0)) AS "_sum_2" FROM parts GROUP BY "town"

-- present
SELECT CAST("town" AS VARCHAR) AS "town", CAST(UPPER("town") || '/' || CAST(_call_0 AS TEXT) AS VARCHAR) AS "label", CAST(CASE
WHEN _call_0 > 1 THEN COALESCE(_call_1, 0) ELSE -1 END AS DECIMAL(38,2)) AS "turnover", CAST(_call_2 AS HUGEINT) AS "letters"
FROM (SELECT "town", CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_0, CAST("_sum_1" AS DECIMAL(38,2)) AS _call_1, CAST("_sum_2" AS HUGEINT) AS _call_2 FROM merged)
