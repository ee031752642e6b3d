-- fold core
SELECT CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "sales"

-- fold values_0
SELECT CAST(_value AS VARCHAR) AS "_item", CAST(count(*) AS BIGINT) AS "_count"
FROM (SELECT "sales"."shop" AS _value FROM counted AS "sales" WHERE ("sales"."shop") IS NOT NULL) GROUP BY 1

-- fold registers_1
SELECT CAST(_value & 4095 AS USMALLINT) AS "_register", CAST(min(CAST(_value >> 32 AS UINTEGER)) AS UINTEGER) AS "_least", CAST(max(CAST(_value >> 32 AS UINTEGER)) AS UINTEGER) AS "_most"
FROM (SELECT hash("sales"."id") AS _value FROM counted AS "sales" WHERE ("sales"."id") IS NOT NULL) GROUP BY 1

-- merge core
SELECT CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts

-- merge values_0
SELECT "_item", CAST(sum("_count") AS BIGINT) AS "_count" FROM parts GROUP BY "_item"

-- merge registers_1
SELECT "_register", CAST(min("_least") AS UINTEGER) AS "_least", CAST(max("_most") AS UINTEGER) AS "_most" FROM parts GROUP BY "_register"

-- finish _finished_values_0
SELECT CAST(list(_item ORDER BY _count DESC, _item)[1:2] AS VARCHAR[]) AS "_finished_values_0" FROM wide

-- finish _finished_registers_1
SELECT CAST(round(4096.0 * (count(*) + count(*) FILTER (WHERE _least < _most)) / (4096 - CAST(sum(CAST(_most - _least AS BIGINT)) AS DOUBLE) / pow(2, 32))) AS BIGINT) AS "_finished_registers_1" FROM wide

-- present
SELECT CAST(_call_0 AS VARCHAR[]) AS "shops", CAST(_call_1 AS BIGINT) AS "n"
FROM (SELECT CAST("_finished_values_0" AS VARCHAR[]) AS _call_0, CAST(coalesce("_finished_registers_1", 0) AS BIGINT) AS _call_1 FROM merged)
