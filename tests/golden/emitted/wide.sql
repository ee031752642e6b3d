-- fold core
SELECT "sales"."shop" AS "shop", CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "sales" GROUP BY 1

-- fold registers_0
SELECT "shop", CAST(_value & 4095 AS USMALLINT) AS "_register", CAST(max(CAST(least(bit_count((CAST(_value >> 12 AS BIGINT) & -CAST(_value >> 12 AS BIGINT)) - 1), 52) + 1 AS UTINYINT)) AS UTINYINT) AS "_rank"
FROM (SELECT "sales"."shop" AS "shop", hash("sales"."id") AS _value FROM counted AS "sales" WHERE ("sales"."id") IS NOT NULL AND ("sales"."amount" > 0)) GROUP BY 1, 2

-- merge core
SELECT "shop", CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts GROUP BY "shop"

-- merge registers_0
SELECT "shop", "_register", CAST(max("_rank") AS UTINYINT) AS "_rank" FROM parts GROUP BY "shop", "_register"

-- finish _finished_registers_0
SELECT "shop", CAST(round(4096.0 * 4096 / (2 * ln(2)) / (CAST(sum(CAST(1 AS BIGINT) << (53 - _rank)) AS DOUBLE) / pow(2, 53) + 4096 * (((4096 - count(*)) / 4096) + list_sum(list_transform(range(1, 25), lambda k: pow(((4096 - count(*)) / 4096), pow(2, k)) * pow(2, k - 1)))))) AS BIGINT) AS "_finished_registers_0" FROM wide GROUP BY "shop"

-- present
SELECT CAST("shop" AS VARCHAR) AS "shop", CAST(_call_0 AS BIGINT) AS "sales", CAST(_call_1 AS BIGINT) AS "n"
FROM (SELECT "shop", CAST(coalesce("_finished_registers_0", 0) AS BIGINT) AS _call_0, CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_1 FROM merged)
