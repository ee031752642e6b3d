WITH calls AS (FROM read_csv(getvariable('folder') || '/calls.csv')),
     ranked AS (SELECT caller, count(*) AS n FROM calls GROUP BY caller ORDER BY n DESC, caller LIMIT 3)
SELECT count(*) AS calls, count(DISTINCT caller) AS callers,
       quantile_disc(duration, [0, 0.5, 0.9, 1]) FILTER (WHERE duration >= 0) AS seconds,
       (SELECT list(caller ORDER BY n DESC, caller) FROM ranked) AS busiest,
       to_seconds(max(timestamp) - min(timestamp)) AS span
FROM calls
