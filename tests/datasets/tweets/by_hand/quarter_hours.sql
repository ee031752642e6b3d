SELECT regexp_extract(filename, 'volume_(\w+)', 1) AS series,
       make_timestamp((epoch(timestamp)::BIGINT - 300) // 900 * 900000000 + 300000000) AS quarter,
       sum(value) AS tweets, max(value) - min(value) AS spread, count(*) AS readings
FROM read_csv(getvariable('folder') || '/data/realTweets/*.csv', filename = true)
GROUP BY ALL
