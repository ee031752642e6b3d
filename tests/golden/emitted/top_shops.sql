-- fold core
SELECT CAST(count(*) AS BIGINT) AS "_count_0" FROM counted AS "sales"

-- fold values_0
SELECT CAST(_value AS VARCHAR) AS "_item", CAST(count(*) AS BIGINT) AS "_count"
FROM (SELECT "sales"."shop" AS _value FROM counted AS "sales" WHERE ("sales"."shop") IS NOT NULL) GROUP BY 1

-- fold registers_1
SELECT CAST(_value & 4095 AS USMALLINT) AS "_register", CAST(max(CAST(least(bit_count((CAST(_value >> 12 AS BIGINT) & -CAST(_value >> 12 AS BIGINT)) - 1), 52) + 1 AS UTINYINT)) AS UTINYINT) AS "_rank"
FROM (SELECT hash("sales"."id") AS _value FROM counted AS "sales" WHERE ("sales"."id") IS NOT NULL) GROUP BY 1

-- merge core
SELECT CAST(sum("_count_0") AS BIGINT) AS "_count_0" FROM parts

-- merge values_0
SELECT "_item", CAST(sum("_count") AS BIGINT) AS "_count" FROM parts GROUP BY "_item"

-- merge registers_1
SELECT "_register", CAST(max("_rank") AS UTINYINT) AS "_rank" FROM parts GROUP BY "_register"

-- finish _finished_values_0
SELECT CAST(list(_item ORDER BY _count DESC, _item)[1:2] AS VARCHAR[]) AS "_finished_values_0" FROM wide

-- finish _finished_registers_1
SELECT CAST(round(4096.0 * 4096 / (2 * ln(2)) / (CAST(sum(CAST(1 AS BIGINT) << (53 - _rank)) AS DOUBLE) / pow(2, 53) + 4096 * (((4096 - count(*)) / 4096) + list_sum(list_transform(range(1, 25), lambda k: pow(((4096 - count(*)) / 4096), pow(2, k)) * pow(2, k - 1)))))) AS BIGINT) AS "_finished_registers_1" FROM wide

-- present
SELECT CAST(_call_0 AS VARCHAR[]) AS "shops", CAST(_call_1 AS BIGINT) AS "n"
FROM (SELECT CAST("_finished_values_0" AS VARCHAR[]) AS _call_0, CAST(coalesce("_finished_registers_1", 0) AS BIGINT) AS _call_1 FROM merged)
