WITH rows AS (FROM read_csv(getvariable('folder') || '/obd/random/all/all.csv')),
     items AS (FROM read_csv(getvariable('folder') || '/obd/random/all/item_context.csv'))
SELECT timestamp::TIMESTAMPTZ::TIMESTAMP AS timestamp, item_id, position, item_feature_0 AS feature, item_feature_2 AS kind
FROM rows JOIN items USING (item_id) WHERE click = 1
