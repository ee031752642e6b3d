WITH rows AS (SELECT value::DOUBLE AS value, value::DECIMAL(27,15) AS exact, parse_filename(filename, true) AS name
     FROM read_csv(getvariable('folder') || '/data/realAdExchange/*.csv', all_varchar = true, filename = true)),
     ranked AS (SELECT name, (exact * 10)::INTEGER AS tenth, count(*) AS n FROM rows GROUP BY ALL),
     usual AS (SELECT name, first(tenth ORDER BY n DESC, tenth) AS usual FROM ranked GROUP BY name)
SELECT replace(replace(name, '_results', ''), '_', '-') AS series, fsum(value) AS total, fsum(value) / count(*) AS mean,
       var_samp(value) AS variance, median(exact) AS middle, any_value(usual) AS usual
FROM rows JOIN usual USING (name) GROUP BY name
