-- fold core
SELECT "sales"."shop" AS "shop", TIME_BUCKET(INTERVAL '1' HOUR, "sales"."ts") AS "hour", CAST(count(*) AS BIGINT) AS "_count_0", CAST(count("sales"."amount") AS BIGINT) AS "_count_1", CAST(sum("sales"."amount") AS DECIMAL(38,0)) AS "_sum_2", CAST(sum("sales"."price") AS DECIMAL(38,2)) AS "_sum_3", CAST(count("sales"."price") AS BIGINT) AS "_count_4", CAST(min(("sales"."weight") + 0.0) AS DOUBLE) AS "_min_5", CAST(max("sales"."items") AS INTEGER) AS "_max_6" FROM counted AS "sales" GROUP BY 1, 2

-- merge core
SELECT "shop", "hour", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_count_1") AS BIGINT) AS "_count_1", CAST(sum("_sum_2") AS DECIMAL(38,0)) AS "_sum_2", CAST(sum("_sum_3") AS DECIMAL(38,2)) AS "_sum_3", CAST(sum("_count_4") AS BIGINT) AS "_count_4", CAST(min("_min_5") AS DOUBLE) AS "_min_5", CAST(max("_max_6") AS INTEGER) AS "_max_6" FROM parts GROUP BY "shop", "hour"

-- present
SELECT CAST("shop" AS VARCHAR) AS "shop", CAST("hour" AS TIMESTAMP) AS "hour", CAST(_call_0 AS BIGINT) AS "n", CAST(_call_1 AS BIGINT) AS "known", CAST(_call_2 AS HUGEINT) AS "total", CAST(_call_3 AS DOUBLE) AS "mean", CAST(_call_4 AS DOUBLE) AS "least", CAST(_call_5 AS INTEGER) AS "most"
FROM (SELECT "shop", "hour", CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_0, CAST(coalesce("_count_1", 0) AS BIGINT) AS _call_1, CAST("_sum_2" AS HUGEINT) AS _call_2, CAST(CAST("_sum_3" AS DOUBLE) / nullif("_count_4", 0) AS DOUBLE) AS _call_3, CAST("_min_5" AS DOUBLE) AS _call_4, CAST("_max_6" AS INTEGER) AS _call_5 FROM merged)
