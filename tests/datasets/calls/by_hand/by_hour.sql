SELECT (second // 3600) % 24 AS hour, count(*) AS calls, sum((duration = -1)::INT) AS missed,
       round(100.0 * sum((duration = -1)::INT) / count(*), 2) AS missed_pct,
       sum(CASE WHEN duration >= 0 THEN duration END) AS seconds,
       avg(CASE WHEN duration >= 0 THEN duration END) AS mean_seconds,
       max(duration) AS longest
FROM read_csv(getvariable('folder') || '/calls.csv', names = ['second', 'caller', 'callee', 'duration'], header = true)
GROUP BY hour
