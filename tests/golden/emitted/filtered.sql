-- fold core
SELECT TIME_BUCKET(INTERVAL '1' DAY, "sales"."ts") AS "day", CAST(count(*) AS BIGINT) AS "_count_0", CAST(sum("sales"."price") FILTER (WHERE "sales"."shop" = 'a') AS DECIMAL(38,2)) AS "_sum_1", CAST(count("sales"."price") FILTER (WHERE "sales"."shop" = 'a') AS BIGINT) AS "_count_2", CAST(min("sales"."shop") FILTER (WHERE "sales"."amount" > 3) AS VARCHAR) AS "_min_3" FROM counted AS "sales" WHERE "sales"."id" <> '9' AND ("sales"."amount" IS NULL OR "sales"."amount" < 100) GROUP BY 1

-- fold buckets_0
SELECT "day", CAST(CASE
WHEN isnan(CAST(_value AS DOUBLE)) THEN 160001
WHEN isinf(CAST(_value AS DOUBLE)) THEN CASE
WHEN CAST(_value AS DOUBLE) > 0 THEN 160000 ELSE -160000 END
WHEN CAST(_value AS DOUBLE) = 0 THEN 0
WHEN CAST(_value AS DOUBLE) > 0 THEN (CAST(ceil(ln(abs(CAST(_value AS DOUBLE))) / ln(1.01)) AS INTEGER) + 80000) ELSE -(CAST(ceil(ln(abs(CAST(_value AS DOUBLE))) / ln(1.01)) AS INTEGER) + 80000) END AS INTEGER) AS "_bucket", CAST(count(*) AS BIGINT) AS "_count", CAST(min(_value) AS DOUBLE) AS "_least", CAST(max(_value) AS DOUBLE) AS "_most"
FROM (SELECT TIME_BUCKET(INTERVAL '1' DAY, "sales"."ts") AS "day", ("sales"."weight") + 0.0 AS _value FROM counted AS "sales" WHERE ("sales"."id" <> '9' AND ("sales"."amount" IS NULL OR "sales"."amount" < 100)) AND (("sales"."weight") IS NOT NULL AND ("sales"."weight" > 0))) GROUP BY 1, 2

-- merge core
SELECT "day", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_sum_1") AS DECIMAL(38,2)) AS "_sum_1", CAST(sum("_count_2") AS BIGINT) AS "_count_2", CAST(min("_min_3") AS VARCHAR) AS "_min_3" FROM parts GROUP BY "day"

-- merge buckets_0
SELECT "day", "_bucket", CAST(sum("_count") AS BIGINT) AS "_count", CAST(min("_least") AS DOUBLE) AS "_least", CAST(max("_most") AS DOUBLE) AS "_most" FROM parts GROUP BY "day", "_bucket"

-- finish _finished_buckets_0
SELECT "day", CAST(min(CASE
WHEN (greatest(1, (_all * 9 + 9) // 10) - (_upto - _count)) = 1 OR _least = _most THEN _least
WHEN (greatest(1, (_all * 9 + 9) // 10) - (_upto - _count)) = _count THEN _most ELSE least(_most, greatest(_least, coalesce(TRY_CAST(CAST(_least AS DOUBLE) + (((greatest(1, (_all * 9 + 9) // 10) - (_upto - _count)) - 1) / (_count - 1)) * (CAST(_most AS DOUBLE) - CAST(_least AS DOUBLE)) AS DOUBLE), _most))) END) FILTER (WHERE _upto >= greatest(1, (_all * 9 + 9) // 10) AND _upto - _count < greatest(1, (_all * 9 + 9) // 10)) AS DOUBLE) AS "_finished_buckets_0"
FROM (SELECT *, sum(_count) OVER (PARTITION BY "day" ORDER BY _bucket) AS _upto, sum(_count) OVER (PARTITION BY "day") AS _all FROM wide) GROUP BY "day"

-- present
SELECT CAST("day" AS TIMESTAMP) AS "day", CAST(_call_0 AS DECIMAL(38,2)) AS "of_a", CAST(_call_1 AS DOUBLE) AS "mean_of_a", CAST(_call_2 AS VARCHAR) AS "most", CAST(_call_3 AS DOUBLE) AS "heavy"
FROM (SELECT "day", CAST("_sum_1" AS DECIMAL(38,2)) AS _call_0, CAST(CAST("_sum_1" AS DOUBLE) / nullif("_count_2", 0) AS DOUBLE) AS _call_1, CAST("_min_3" AS VARCHAR) AS _call_2, CAST("_finished_buckets_0" AS DOUBLE) AS _call_3 FROM merged)
