WITH rows AS (FROM read_parquet(getvariable('folder') || '/flights-3m.parquet') WHERE date < getvariable('until')),
     counts AS (SELECT origin, destination, count(*) AS n FROM rows GROUP BY ALL),
     tops AS (SELECT origin, list(destination ORDER BY n DESC, destination)[:3] AS top FROM counts GROUP BY origin)
SELECT origin, count(DISTINCT destination) AS destinations, top,
       quantile_disc(delay, [0.1, 0.5, 0.9]) AS delays, quantile_disc(distance, 0.5) AS miles
FROM rows JOIN tops USING (origin) GROUP BY origin, top
