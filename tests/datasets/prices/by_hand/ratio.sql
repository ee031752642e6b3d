WITH rows AS (SELECT value::DECIMAL(27,15) AS value, parse_filename(filename, true) AS name FROM read_csv(
     getvariable('folder') || '/data/realAdExchange/*.csv', all_varchar = true, filename = true))
SELECT name[10:10]::UTINYINT AS exchange,
       sum(if(contains(name, 'cpm'), value, 0)) / sum(if(contains(name, 'cpc'), value, 0)) AS cpm_per_cpc,
       if(max(if(contains(name, 'cpc'), value, 0)) > 1, 'dear', 'cheap') AS clicks_are
FROM rows GROUP BY ALL
