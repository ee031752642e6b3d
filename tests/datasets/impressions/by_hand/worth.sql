WITH rows AS (SELECT *, split_part(filename, '/', -3) AS policy, propensity_score::DOUBLE AS p
              FROM read_csv(getvariable('folder') || '/obd/*/all/all.csv', all_varchar = true, filename = true))
SELECT policy, avg(CASE click WHEN '1' THEN 1 / p ELSE 0 END) AS if_random, fsum(p) / count(*) AS mean_propensity,
       round(stddev_pop(p), 12) AS spread,
       count(DISTINCT (left(user_feature_0, 4), left(user_feature_1, 4))) AS segments
FROM rows GROUP BY policy
