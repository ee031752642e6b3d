-- fold core
SELECT "sales"."shop" AS "shop", CAST(count(*) AS BIGINT) AS "_count_0", CAST(count("sales"."amount") AS BIGINT) AS "_count_1", CAST(sum("sales"."amount") AS DECIMAL(38,0)) AS "_sum_2" FROM counted AS "sales" GROUP BY 1

-- fold buckets_0
SELECT "shop", CAST(CASE
WHEN isnan(CAST(_value AS DOUBLE)) THEN 160001
WHEN isinf(CAST(_value AS DOUBLE)) THEN CASE
WHEN CAST(_value AS DOUBLE) > 0 THEN 160000 ELSE -160000 END
WHEN CAST(_value AS DOUBLE) = 0 THEN 0
WHEN CAST(_value AS DOUBLE) > 0 THEN (CAST(ceil(ln(abs(CAST(_value AS DOUBLE))) / ln(1.01)) AS INTEGER) + 80000) ELSE -(CAST(ceil(ln(abs(CAST(_value AS DOUBLE))) / ln(1.01)) AS INTEGER) + 80000) END AS INTEGER) AS "_bucket", CAST(count(*) AS BIGINT) AS "_count", CAST(min(_value) AS DECIMAL(12,2)) AS "_least", CAST(max(_value) AS DECIMAL(12,2)) AS "_most"
FROM (SELECT "sales"."shop" AS "shop", "sales"."price" AS _value FROM counted AS "sales" WHERE ("sales"."price") IS NOT NULL) GROUP BY 1, 2

-- merge core
SELECT "shop", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_count_1") AS BIGINT) AS "_count_1", CAST(sum("_sum_2") AS DECIMAL(38,0)) AS "_sum_2" FROM parts GROUP BY "shop"

-- merge buckets_0
SELECT "shop", "_bucket", CAST(sum("_count") AS BIGINT) AS "_count", CAST(min("_least") AS DECIMAL(12,2)) AS "_least", CAST(max("_most") AS DECIMAL(12,2)) AS "_most" FROM parts GROUP BY "shop", "_bucket"

-- finish _finished_buckets_0
SELECT "shop", CAST(min(CASE
WHEN (greatest(1, (_all * 5 + 9) // 10) - (_upto - _count)) = 1 OR _least = _most THEN _least
WHEN (greatest(1, (_all * 5 + 9) // 10) - (_upto - _count)) = _count THEN _most ELSE least(_most, greatest(_least, coalesce(TRY_CAST(CAST(_least AS DOUBLE) + (((greatest(1, (_all * 5 + 9) // 10) - (_upto - _count)) - 1) / (_count - 1)) * (CAST(_most AS DOUBLE) - CAST(_least AS DOUBLE)) AS DECIMAL(12,2)), _most))) END) FILTER (WHERE _upto >= greatest(1, (_all * 5 + 9) // 10) AND _upto - _count < greatest(1, (_all * 5 + 9) // 10)) AS DECIMAL(12,2)) AS "_finished_buckets_0"
FROM (SELECT *, sum(_count) OVER (PARTITION BY "shop" ORDER BY _bucket) AS _upto, sum(_count) OVER (PARTITION BY "shop") AS _all FROM wide) GROUP BY "shop"

-- finish _finished_buckets_0_1
SELECT "shop", CAST(CASE
WHEN count(*) > 0 THEN [min(CASE
WHEN (greatest(1, (_all * 0 + 0) // 1) - (_upto - _count)) = 1 OR _least = _most THEN _least
WHEN (greatest(1, (_all * 0 + 0) // 1) - (_upto - _count)) = _count THEN _most ELSE least(_most, greatest(_least, coalesce(TRY_CAST(CAST(_least AS DOUBLE) + (((greatest(1, (_all * 0 + 0) // 1) - (_upto - _count)) - 1) / (_count - 1)) * (CAST(_most AS DOUBLE) - CAST(_least AS DOUBLE)) AS DECIMAL(12,2)), _most))) END) FILTER (WHERE _upto >= greatest(1, (_all * 0 + 0) // 1) AND _upto - _count < greatest(1, (_all * 0 + 0) // 1)), min(CASE
WHEN (greatest(1, (_all * 1 + 0) // 1) - (_upto - _count)) = 1 OR _least = _most THEN _least
WHEN (greatest(1, (_all * 1 + 0) // 1) - (_upto - _count)) = _count THEN _most ELSE least(_most, greatest(_least, coalesce(TRY_CAST(CAST(_least AS DOUBLE) + (((greatest(1, (_all * 1 + 0) // 1) - (_upto - _count)) - 1) / (_count - 1)) * (CAST(_most AS DOUBLE) - CAST(_least AS DOUBLE)) AS DECIMAL(12,2)), _most))) END) FILTER (WHERE _upto >= greatest(1, (_all * 1 + 0) // 1) AND _upto - _count < greatest(1, (_all * 1 + 0) // 1))] END AS DECIMAL(12,2)[]) AS "_finished_buckets_0_1"
FROM (SELECT *, sum(_count) OVER (PARTITION BY "shop" ORDER BY _bucket) AS _upto, sum(_count) OVER (PARTITION BY "shop") AS _all FROM wide) GROUP BY "shop"

-- present
SELECT CAST("shop" AS VARCHAR) AS "shop", CAST(_call_0 AS BIGINT) AS "known", CAST(_call_1 AS HUGEINT) AS "total", CAST(_call_2 AS DOUBLE) AS "mean", CAST(_call_1 / _call_0 AS DOUBLE) AS "again", CAST(_call_3 AS DECIMAL(12,2)) AS "middle", CAST(_call_4 AS DECIMAL(12,2)[]) AS "ends"
FROM (SELECT "shop", CAST(coalesce("_count_1", 0) AS BIGINT) AS _call_0, CAST("_sum_2" AS HUGEINT) AS _call_1, CAST(CAST("_sum_2" AS DOUBLE) / nullif("_count_1", 0) AS DOUBLE) AS _call_2, CAST("_finished_buckets_0" AS DECIMAL(12,2)) AS _call_3, CAST("_finished_buckets_0_1" AS DECIMAL(12,2)[]) AS _call_4 FROM merged)
