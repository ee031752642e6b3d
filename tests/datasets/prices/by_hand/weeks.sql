WITH rows AS (SELECT *, parse_filename(filename, true) AS name FROM read_csv(
     getvariable('folder') || '/data/realAdExchange/*.csv', all_varchar = true, filename = true))
SELECT split_part(name, '_', 2) AS unit, split_part(name[10:], '_', 1)::UTINYINT AS exchange,
       (timestamp::DATE - ((isodow(timestamp::DATE) - 1)::INTEGER))::TIMESTAMP AS week, count(*) AS hours,
       sum(value::DECIMAL(27,15)) AS total,
       sum(value::DECIMAL(27,15))::DOUBLE / count(*) AS mean,
       min(value::DECIMAL(27,15)) AS least, max(value::DECIMAL(27,15)) AS most
FROM rows GROUP BY ALL
