SELECT regexp_extract(filename, 'volume_(\w+)', 1) AS series,
       quantile_disc(value, [0.25, 0.5, 0.75]) AS quartiles, max(value) AS peak, avg(value) AS mean,
       count(DISTINCT value) AS different
FROM read_csv(getvariable('folder') || '/data/realTweets/*.csv', filename = true)
GROUP BY ALL
