-- parse 0
CREATE OR REPLACE TEMP TABLE parsed AS SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "_headers", "id", "ts", "shop", "amount", "price", "weight", "basket", "items", ['null value', 'not UTF-8', 'not JSON', 'not an object', 'repeated key', 'type', 'missing', 'type', 'missing', 'type', 'type', 'type', 'type', 'type', 'expression', 'type', 'expression', 'check'][_reject] AS _reason, [NULL, NULL, NULL, NULL, NULL, 'id', 'id', 'ts', 'ts', 'shop', 'amount', 'price', 'weight', 'basket', 'items', 'items', 'amount', 'amount'][_reject] AS _column, ['', '', '', '', '', 'VARCHAR', 'NOT NULL', 'TIMESTAMP', 'NOT NULL', 'VARCHAR', 'INTEGER', 'DECIMAL(12,2)', 'DOUBLE', 'JSON', 'basket ->> ''$.items''', 'INTEGER', 'amount >= 0', 'amount >= 0'][_reject] AS _expected, CASE
WHEN _reject IS NOT NULL THEN left(CASE _reject
WHEN 1 THEN NULL
WHEN 2 THEN NULL
WHEN 3 THEN NULL
WHEN 4 THEN NULL
WHEN 5 THEN NULL
WHEN 6 THEN _field_0
WHEN 7 THEN 'NULL'
WHEN 8 THEN _field_1
WHEN 9 THEN 'NULL'
WHEN 10 THEN _field_2
WHEN 11 THEN _field_3
WHEN 12 THEN _field_4
WHEN 13 THEN _field_5
WHEN 14 THEN _field_6
WHEN 15 THEN NULL
WHEN 16 THEN CAST(_attempt_7.v AS VARCHAR)
WHEN 17 THEN CAST("amount" AS VARCHAR)
WHEN 18 THEN CAST("amount" AS VARCHAR) END, 200) END AS _found
FROM (SELECT *, CASE
WHEN _value IS NULL THEN 1
WHEN _text IS NULL THEN 2
WHEN _keys IS NULL THEN 3
WHEN _document IS NULL THEN 4
WHEN _repeated THEN 5
WHEN _field_0 IS NOT NULL AND "id" IS NULL THEN 6
WHEN "id" IS NULL THEN 7
WHEN _field_1 IS NOT NULL AND "ts" IS NULL THEN 8
WHEN "ts" IS NULL THEN 9
WHEN _field_2 IS NOT NULL AND "shop" IS NULL THEN 10
WHEN _field_3 IS NOT NULL AND "amount" IS NULL THEN 11
WHEN _field_4 IS NOT NULL AND "price" IS NULL THEN 12
WHEN _field_5 IS NOT NULL AND "weight" IS NULL THEN 13
WHEN _field_6 IS NOT NULL AND "basket" IS NULL THEN 14
WHEN _attempt_7 IS NULL THEN 15
WHEN _attempt_7.v IS NOT NULL AND "items" IS NULL THEN 16
WHEN TRY(struct_pack(v := CAST((amount >= 0) AS BOOLEAN))) IS NULL THEN 17
WHEN TRY(struct_pack(v := CAST((amount >= 0) AS BOOLEAN))).v = false THEN 18 END AS _reject
FROM (SELECT *, CASE
WHEN typeof(_attempt_7.v) IN ('VARCHAR', 'JSON') THEN CASE
WHEN CAST(TRY_CAST(CAST(_attempt_7.v AS VARCHAR) AS INTEGER) AS VARCHAR) = CAST(_attempt_7.v AS VARCHAR) THEN TRY_CAST(CAST(_attempt_7.v AS VARCHAR) AS INTEGER) END
WHEN CASE
WHEN typeof(_attempt_7.v) IN ('DOUBLE', 'FLOAT', 'BOOLEAN', 'INTEGER') THEN TRY_CAST(TRY_CAST(_attempt_7.v AS INTEGER) AS DOUBLE) = TRY_CAST(_attempt_7.v AS DOUBLE) ELSE CASE
WHEN CAST(TRY_CAST(regexp_replace(CAST(_attempt_7.v AS VARCHAR), '\.0+$', '') AS INTEGER) AS VARCHAR) = regexp_replace(CAST(_attempt_7.v AS VARCHAR), '\.0+$', '') THEN TRY_CAST(regexp_replace(CAST(_attempt_7.v AS VARCHAR), '\.0+$', '') AS INTEGER) END IS NOT NULL END THEN TRY_CAST(_attempt_7.v AS INTEGER) END AS "items"
FROM (SELECT *, TRY(struct_pack(v := basket ->> '$.items')) AS _attempt_7
FROM (SELECT *, CASE
WHEN starts_with(_field_0, '"') THEN CASE
WHEN contains(_field_0, chr(92)) THEN json_extract_string(_field_0, '$') ELSE substring(_field_0, 2, length(_field_0) - 2) END END AS "id", CASE
WHEN starts_with(_field_1, '"') THEN CASE
WHEN regexp_full_match(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END, '[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?Z?)?') THEN CASE
WHEN TRY_CAST(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END AS TIMESTAMP) BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999' THEN TRY_CAST(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END AS TIMESTAMP) END
WHEN regexp_full_match(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END, '[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?') THEN CASE
WHEN CAST(TRY_CAST(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END AS TIMESTAMPTZ) AS TIMESTAMP) BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999' THEN CAST(TRY_CAST(CASE
WHEN contains(_field_1, chr(92)) THEN json_extract_string(_field_1, '$') ELSE substring(_field_1, 2, length(_field_1) - 2) END AS TIMESTAMPTZ) AS TIMESTAMP) END END END AS "ts", CASE
WHEN starts_with(_field_2, '"') THEN CASE
WHEN contains(_field_2, chr(92)) THEN json_extract_string(_field_2, '$') ELSE substring(_field_2, 2, length(_field_2) - 2) END END AS "shop", CASE
WHEN CAST(TRY_CAST(_field_3 AS INTEGER) AS VARCHAR) = _field_3 THEN TRY_CAST(_field_3 AS INTEGER) END AS "amount", CASE
WHEN starts_with(_field_4, '"') THEN CASE
WHEN regexp_full_match(CASE
WHEN contains(_field_4, chr(92)) THEN json_extract_string(_field_4, '$') ELSE substring(_field_4, 2, length(_field_4) - 2) END, '-?(0|[1-9][0-9]*)(\.[0-9]{1,2}0*)?') THEN TRY_CAST(CASE
WHEN contains(_field_4, chr(92)) THEN json_extract_string(_field_4, '$') ELSE substring(_field_4, 2, length(_field_4) - 2) END AS DECIMAL(12,2)) END
WHEN TRY_CAST(_field_4 AS DOUBLE) IS NOT NULL THEN CASE
WHEN TRY_CAST(_exact."price" AS DECIMAL(12,2)) = _exact."price" AND (_exact."price" <> 0 OR TRY_CAST(_field_4 AS DOUBLE) = 0) AND NOT regexp_matches(_document, '"price"\s*:\s*-?[0-9]+(?:\.[0-9]{28}[0-9]*[1-9])') THEN TRY_CAST(_exact."price" AS DECIMAL(12,2)) END END AS "price", CASE
WHEN isfinite(TRY_CAST(_field_5 AS DOUBLE)) THEN TRY_CAST(_field_5 AS DOUBLE) END AS "weight", CASE
WHEN _field_6 IS NOT NULL THEN _json[7] END AS "basket"
FROM (SELECT *, CASE
WHEN _found_0 NOT IN ('null', '"NA"') THEN _found_0 END AS _field_0, CASE
WHEN _found_1 NOT IN ('null', '"NA"') THEN _found_1 END AS _field_1, CASE
WHEN _found_2 NOT IN ('null', '"NA"') THEN _found_2 END AS _field_2, CASE
WHEN _found_3 NOT IN ('null', '"NA"') THEN _found_3 END AS _field_3, CASE
WHEN _found_4 NOT IN ('null', '"NA"') THEN _found_4 END AS _field_4, CASE
WHEN _found_5 NOT IN ('null', '"NA"') THEN _found_5 END AS _field_5, CASE
WHEN _found_6 NOT IN ('null', '"NA"') THEN _found_6 END AS _field_6
FROM (SELECT *, _texts[1] AS _found_0, _texts[2] AS _found_1, _texts[3] AS _found_2, _texts[4] AS _found_3, _texts[5] AS _found_4, _texts[6] AS _found_5, _texts[7] AS _found_6
FROM (SELECT *, CAST(_json AS VARCHAR[]) AS _texts
FROM (SELECT *, json_extract(_document, ['$."id"', '$."ts"', '$."shop"', '$."amount"', '$."price"', '$."weight"', '$."basket"']) AS _json, json_transform(_document, '{"price":"DECIMAL(38,28)"}') AS _exact
FROM (SELECT *, CASE
WHEN _keys IS NOT NULL AND starts_with(ltrim(_text, ' ' || chr(9) || chr(10) || chr(13)), '{') THEN _text END AS _document, CASE
WHEN _keys IN (SELECT _seen
FROM (SELECT DISTINCT TRY(json_keys(TRY(decode(_value)))) AS _seen
FROM (SELECT _value FROM records LIMIT 500)) WHERE len(_seen) = list_unique(_seen)) THEN false ELSE len(_keys) <> list_unique(_keys) END AS _repeated
FROM (SELECT *, TRY(json_keys(CASE
WHEN json_valid(_text) THEN _text END)) AS _keys
FROM (SELECT *, TRY(decode(_value)) AS _text FROM records)))))))))))

-- dedup 0
CREATE OR REPLACE TEMP TABLE known AS SELECT DISTINCT "id", true AS _known FROM ids WHERE _instant > $since AND _hash IN (SELECT hash("id") FROM parsed WHERE _reason IS NULL)

-- dedup 1
CREATE OR REPLACE TEMP TABLE events AS SELECT * EXCLUDE (_known), coalesce(_known, false) OR row_number() OVER (PARTITION BY "id" ORDER BY _partition, _offset) > 1 AS _duplicate
FROM (SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "id", "ts", "shop", "amount", "price", "weight", "basket", "items" FROM parsed WHERE _reason IS NULL) LEFT JOIN known USING ("id")

-- master
SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "id", "ts", "shop", "amount", "price", "weight", "basket", "items", _duplicate FROM events ORDER BY _partition, _offset

-- rejects
SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "_headers", _reason, _column, _expected, _found FROM parsed WHERE _reason IS NOT NULL ORDER BY _partition, _offset

-- ids
SELECT hash("id") AS _hash, "id", $instant AS _instant FROM events WHERE NOT _duplicate
