WITH rows AS (SELECT *, hour(date) AS hour FROM read_parquet(getvariable('folder') || '/flights-3m.parquet')
              WHERE date < getvariable('until')),
     bands AS (SELECT origin, hour, (delay // 60)::SMALLINT AS late, count(*) AS n FROM rows GROUP BY ALL),
     maps AS (SELECT origin, hour, map_from_entries(list((late, n))) AS hours_late FROM bands GROUP BY ALL)
SELECT origin, hour, len(list_distinct(list(destination))) AS destinations,
       quantile_cont(delay, [0.5, 0.9]) AS delays, any_value(hours_late) AS hours_late,
       last(destination ORDER BY distance, destination) AS furthest, stddev_samp(delay) AS spread
FROM rows JOIN maps USING (origin, hour) GROUP BY origin, hour
