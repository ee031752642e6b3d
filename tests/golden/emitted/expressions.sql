-- fold core
SELECT "sales"."shop" AS "_key_0", CAST(count(*) AS BIGINT) AS "_count_0", CAST(count(*) FILTER (WHERE "sales"."amount" > 1) AS BIGINT) AS "_count_1", CAST(sum("sales"."amount") AS DECIMAL(38,0)) AS "_sum_2" FROM counted AS "sales" WHERE NOT "sales"."price" IS NULL GROUP BY 1

-- merge core
SELECT "_key_0", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_count_1") AS BIGINT) AS "_count_1", CAST(sum("_sum_2") AS DECIMAL(38,0)) AS "_sum_2" FROM parts GROUP BY "_key_0"

-- present
SELECT CAST(UPPER("_key_0") AS VARCHAR) AS "name", CAST(100.0 * _call_0 / _call_1 AS DOUBLE) AS "share", CAST(CASE
WHEN _call_2 > 3 THEN 'much' ELSE 'little' END AS VARCHAR) AS "size"
FROM (SELECT "_key_0", CAST(coalesce("_count_1", 0) AS BIGINT) AS _call_0, CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_1, CAST("_sum_2" AS HUGEINT) AS _call_2 FROM merged)
