WITH edits AS (FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz')),
     ranked AS (SELECT channel, count(*) AS n FROM edits GROUP BY channel ORDER BY n DESC, channel LIMIT 4)
SELECT count(*) AS edits, count(DISTINCT page) AS pages,
       count(DISTINCT user) FILTER (WHERE NOT isAnonymous) AS known_users,
       (SELECT list(channel ORDER BY n DESC, channel) FROM ranked) AS channels,
       quantile_disc(delta, 0.05) AS p05, quantile_disc(delta, 0.95) AS p95,
       min(delta) AS least, max(delta) AS most
FROM edits
