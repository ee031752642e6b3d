-- fold core
SELECT "sales"."shop" AS "shop", CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "sales" GROUP BY 1

-- fold registers_0
SELECT "shop", CAST(_value & 4095 AS USMALLINT) AS "_register", CAST(min(CAST(_value >> 32 AS UINTEGER)) AS UINTEGER) AS "_least", CAST(max(CAST(_value >> 32 AS UINTEGER)) AS UINTEGER) AS "_most"
FROM (SELECT "sales"."shop" AS "shop", hash("sales"."id") AS _value FROM counted AS "sales" WHERE ("sales"."id") IS NOT NULL AND ("sales"."amount" > 0)) GROUP BY 1, 2

-- merge core
SELECT "shop", CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts GROUP BY "shop"

-- merge registers_0
SELECT "shop", "_register", CAST(min("_least") AS UINTEGER) AS "_least", CAST(max("_most") AS UINTEGER) AS "_most" FROM parts GROUP BY "shop", "_register"

-- finish _finished_registers_0
SELECT "shop", CAST(round(4096.0 * (count(*) + count(*) FILTER (WHERE _least < _most)) / (4096 - CAST(sum(CAST(_most - _least AS BIGINT)) AS DOUBLE) / pow(2, 32))) AS BIGINT) AS "_finished_registers_0" FROM wide GROUP BY "shop"

-- present
SELECT CAST("shop" AS VARCHAR) AS "shop", CAST(_call_0 AS BIGINT) AS "sales", CAST(_call_1 AS BIGINT) AS "n"
FROM (SELECT "shop", CAST(coalesce("_finished_registers_0", 0) AS BIGINT) AS _call_0, CAST(coalesce("_count_0", 0) AS BIGINT) AS _call_1 FROM merged)
