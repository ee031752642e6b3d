-- fold core
SELECT ("sales"."weight") + 0.0 AS "_key_0", COALESCE("sales"."shop", 'none') AS "_key_1", "sales"."items" > 2 AS "_key_2", CAST(count(*) AS BIGINT) AS "_count_0", CAST(max("sales"."amount") AS INTEGER) AS "_max_1", CAST(min("sales"."amount") AS INTEGER) AS "_min_2" FROM counted AS "sales" GROUP BY 1, 2, 3

-- merge core
SELECT "_key_0", "_key_1", "_key_2", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(max("_max_1") AS INTEGER) AS "_max_1", CAST(min("_min_2") AS INTEGER) AS "_min_2" FROM parts GROUP BY "_key_0", "_key_1", "_key_2"

-- present
SELECT CAST(_call_0 AS BIGINT) AS "n", CAST(_call_1 - _call_2 AS INTEGER) AS "spread"
FROM (SELECT "_key_0", "_key_1", "_key_2", CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_0, CAST("_max_1" AS INTEGER) AS _call_1, CAST("_min_2" AS INTEGER) AS _call_2 FROM merged)
