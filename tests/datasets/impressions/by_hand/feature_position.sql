WITH rows AS (FROM read_csv(getvariable('folder') || '/obd/random/all/all.csv')),
     items AS (FROM read_csv(getvariable('folder') || '/obd/random/all/item_context.csv'))
SELECT items.item_feature_1 AS feature, rows.position, items.item_feature_0 > 0 AS positive,
       count(*) AS impressions, sum(click) AS clicks,
       coalesce(max(CASE click WHEN 1 THEN rows.item_id END), 255) AS last_item_clicked
FROM rows, items WHERE rows.item_id = items.item_id GROUP BY ALL
