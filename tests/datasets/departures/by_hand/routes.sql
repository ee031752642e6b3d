WITH pairs AS (SELECT list_sort([origin, destination]) AS pair, *
               FROM read_parquet(getvariable('folder') || '/flights-3m.parquet') WHERE date < getvariable('until'))
SELECT array_to_string(pair, '-') AS route, count(*) AS flights,
       avg(CASE WHEN hour(date) BETWEEN 6 AND 21 THEN delay END) AS mean_by_day,
       min(distance) AS miles, count(DISTINCT distance) = 1 AS one_distance
FROM pairs GROUP BY pair
