-- parse 0
CREATE OR REPLACE TEMP TABLE parsed AS SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "_headers", "shop", "day", "late", ['null value', 'not UTF-8', 'not CSV', 'field count', 'type', 'missing', 'type', 'missing', 'type'][_reject] AS _reason, [NULL, NULL, NULL, NULL, 'shop', 'shop', 'day', 'day', 'late'][_reject] AS _column, ['', '', '', '3 fields', 'VARCHAR', 'NOT NULL', 'DATE', 'NOT NULL', 'BOOLEAN'][_reject] AS _expected, CASE
WHEN _reject IS NOT NULL THEN left(CASE _reject
WHEN 1 THEN NULL
WHEN 2 THEN NULL
WHEN 3 THEN NULL
WHEN 4 THEN CAST(len(_raw) AS VARCHAR)
WHEN 5 THEN _field_0
WHEN 6 THEN 'NULL'
WHEN 7 THEN _field_1
WHEN 8 THEN 'NULL'
WHEN 9 THEN _field_2 END, 200) END AS _found
FROM (SELECT *, CASE
WHEN _value IS NULL THEN 1
WHEN _text IS NULL THEN 2
WHEN _raw IS NULL THEN 3
WHEN _texts IS NULL THEN 4
WHEN _field_0 IS NOT NULL AND "shop" IS NULL THEN 5
WHEN "shop" IS NULL THEN 6
WHEN _field_1 IS NOT NULL AND "day" IS NULL THEN 7
WHEN "day" IS NULL THEN 8
WHEN _field_2 IS NOT NULL AND "late" IS NULL THEN 9 END AS _reject
FROM (SELECT *, _field_0 AS "shop", CASE
WHEN CAST(CASE
WHEN TRY_CAST(_field_1 AS DATE) BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN TRY_CAST(_field_1 AS DATE) END AS VARCHAR) = _field_1 THEN CASE
WHEN TRY_CAST(_field_1 AS DATE) BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN TRY_CAST(_field_1 AS DATE) END END AS "day", CASE _field_2
WHEN 'true' THEN true
WHEN 'false' THEN false END AS "late"
FROM (SELECT *, CASE
WHEN _quoted OR _texts[1] <> '' THEN _texts[1] END AS _field_0, CASE
WHEN _quoted OR _texts[2] <> '' THEN _texts[2] END AS _field_1, CASE
WHEN _quoted OR _texts[3] <> '' THEN _texts[3] END AS _field_2
FROM (SELECT *, CASE
WHEN len(_raw) = 3 THEN CASE
WHEN _quoted THEN list_transform(_raw, lambda _field: CASE
WHEN _field = '' THEN NULL
WHEN starts_with(_field, '"') THEN replace(_field[2:-2], '""', '"') ELSE _field END) ELSE _raw END END AS _texts
FROM (SELECT *, CASE
WHEN _line = '' THEN NULL
WHEN NOT _quoted THEN CASE
WHEN NOT contains(_line, chr(10)) AND NOT contains(_line, chr(13)) THEN string_split(_line, ',') END
WHEN regexp_full_match(_line, '(?s)(?:"(?:[^"]|"")*"|[^",\r\n]*)(?:,(?:"(?:[^"]|"")*"|[^",\r\n]*))*') THEN regexp_extract_all(',' || _line, '(?s),((?:"(?:[^"]|"")*"|[^",\r\n]*))', 1) END AS _raw
FROM (SELECT *, contains(_line, '"') AS _quoted
FROM (SELECT *, rtrim(_text, chr(13) || chr(10)) AS _line
FROM (SELECT *, TRY(decode(_value)) AS _text FROM records))))))))

-- dedup 0
CREATE OR REPLACE TEMP TABLE known AS SELECT DISTINCT "shop", "day", true AS _known FROM ids WHERE _instant > $since AND _hash IN (SELECT hash("shop", "day") FROM parsed WHERE _reason IS NULL)

-- dedup 1
CREATE OR REPLACE TEMP TABLE events AS SELECT * EXCLUDE (_known), coalesce(_known, false) OR row_number() OVER (PARTITION BY "shop", "day" ORDER BY _partition, _offset) > 1 AS _duplicate
FROM (SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "shop", "day", "late" FROM parsed WHERE _reason IS NULL) LEFT JOIN known USING ("shop", "day")

-- master
SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "shop", "day", "late", _duplicate FROM events ORDER BY _partition, _offset

-- rejects
SELECT "_partition", "_offset", "_timestamp", "_key", "_value", "_headers", _reason, _column, _expected, _found FROM parsed WHERE _reason IS NOT NULL ORDER BY _partition, _offset

-- ids
SELECT hash("shop", "day") AS _hash, "shop", "day", $instant AS _instant FROM events WHERE NOT _duplicate
