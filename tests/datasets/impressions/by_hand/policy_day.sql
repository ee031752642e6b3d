WITH rows AS (FROM read_csv(getvariable('folder') || '/obd/*/all/all.csv', all_varchar = true, filename = true))
SELECT split_part(filename, '/', -3) AS policy, timestamp[:10]::DATE AS day, count(*) AS impressions,
       sum(click::INT) AS clicks, sum(click::INT) / count(*) AS rate,
       sum(propensity_score::DECIMAL(21,20)) AS propensity,
       min(propensity_score::DECIMAL(21,20)) AS least_propensity
FROM rows GROUP BY ALL
