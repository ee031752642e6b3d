WITH rows AS (SELECT split_part(filename, '/', -3) AS policy,
                     concat(left(user_feature_0, 4), '-', left(user_feature_1, 4)) AS segment,
                     item_id::UTINYINT AS item_id, propensity_score::DECIMAL(21,20) AS propensity
              FROM read_csv(getvariable('folder') || '/obd/*/all/all.csv', all_varchar = true, filename = true)),
     shown AS (SELECT policy, segment, item_id, count(*) AS n FROM rows GROUP BY ALL),
     ranked AS (SELECT policy, segment, list(item_id ORDER BY n DESC, item_id)[:2] AS most_shown FROM shown GROUP BY ALL)
SELECT policy, segment, count(*) AS impressions, count(DISTINCT item_id) AS items, most_shown,
       quantile_disc(propensity, 0.5) AS median
FROM rows JOIN ranked USING (policy, segment) GROUP BY policy, segment, most_shown
