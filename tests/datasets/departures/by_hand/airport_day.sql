SELECT origin, CAST(date AS DATE) AS day, count(*) AS flights, sum((delay > 15)::INT) AS late,
       100.0 * sum((delay > 15)::INT) / count(*) AS late_pct, sum(delay) / count(delay) AS mean_delay,
       sum(distance) AS miles, max(delay) AS worst
FROM read_parquet(getvariable('folder') || '/flights-3m.parquet') WHERE date < getvariable('until')
GROUP BY ALL
