WITH calls AS (FROM read_csv(getvariable('folder') || '/calls.csv')),
     pairs AS (SELECT caller, callee, count(*) AS n FROM calls GROUP BY ALL),
     loved AS (SELECT caller, first(callee ORDER BY n DESC, callee) AS favourite FROM pairs GROUP BY caller),
     busy AS (SELECT caller, map_from_entries(list((hour, n))) AS hours
              FROM (SELECT caller, ((timestamp // 3600) % 24)::UTINYINT AS hour, count(*) AS n FROM calls GROUP BY ALL)
              GROUP BY caller)
SELECT caller, len(list_distinct(list(callee))) AS callees,
       quantile_cont(duration, 0.5) FILTER (WHERE duration > -1) AS median_seconds, any_value(favourite) AS favourite,
       last(callee ORDER BY duration, callee) AS longest_with,
       first(callee ORDER BY timestamp, callee) AS first_callee,
       last(callee ORDER BY timestamp, callee) FILTER (WHERE duration > -1) AS last_callee,
       any_value(hours) AS hours, stddev(CASE WHEN duration > -1 THEN duration END) AS spread,
       max(duration) >= 0 AS ever_answered
FROM calls JOIN loved USING (caller) JOIN busy USING (caller)
GROUP BY caller
