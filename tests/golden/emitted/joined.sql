-- fold core
SELECT "shops"."city" AS "city", CAST(count(*) AS BIGINT) AS "_count_0", CAST(sum("sales"."price") AS DECIMAL(38,2)) AS "_sum_1" FROM counted AS "sales" LEFT JOIN reference_shops_d30c138f113134e9 AS "shops" USING ("shop") GROUP BY 1

-- merge core
SELECT "city", CAST(sum("_count_0") AS BIGINT) AS "_count_0", CAST(sum("_sum_1") AS DECIMAL(38,2)) AS "_sum_1" FROM parts GROUP BY "city"

-- present
SELECT CAST("city" AS VARCHAR) AS "city", CAST(_call_0 AS DECIMAL(38,2)) AS "turnover"
FROM (SELECT "city", CAST("_sum_1" AS DECIMAL(38,2)) AS _call_0 FROM merged)
