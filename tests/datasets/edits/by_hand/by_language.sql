SELECT regexp_extract(channel, '#([^.]+)', 1) AS language,
       make_timestamp((floor(epoch(time))::BIGINT // 3600) * 3600000000) AS hour,
       count(*) AS edits, sum(isRobot::INT) AS by_robots, sum(delta) AS growth,
       bool_and(added - deleted = delta) AS adds_up, avg(delta) AS mean_growth, max(page) AS last_page
FROM (SELECT * REPLACE (time::TIMESTAMPTZ::TIMESTAMP AS time)
      FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz'))
GROUP BY ALL
