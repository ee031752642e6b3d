SELECT count(*) AS flights, sum(delay) AS delay, min(date) AS first_at, max(date) AS last_at
FROM read_parquet(getvariable('folder') || '/flights-3m.parquet') WHERE date < getvariable('until')
