SELECT countryIsoCode AS country, count(*) AS edits, sum((cityName IS NOT NULL)::INT) AS with_city,
       count(DISTINCT user) AS users, min(time)::TIMESTAMP AS first_seen
FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz')
GROUP BY 1
HAVING country IS NOT NULL
