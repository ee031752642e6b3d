-- Items again, as Parquet.
CREATE TABLE shelf (item_id UTINYINT PRIMARY KEY, item_feature_0 DOUBLE, item_feature_2 VARCHAR NOT NULL)
WITH (file = 'shelf.parquet');

CREATE VIEW worth AS
SELECT policy, sum(click / CAST(propensity_score AS DOUBLE)) / count(*) AS if_random,
       avg(CAST(propensity_score AS DOUBLE)) AS mean_propensity,
       round(stddev_pop(CAST(propensity_score AS DOUBLE)), 12) AS spread,
       count(DISTINCT segment) AS segments
FROM impressions
GROUP BY policy;

CREATE VIEW clicks AS
SELECT timestamp, item_id, position, item_feature_0 AS feature, item_feature_2 AS kind
FROM impressions LEFT JOIN shelf USING (item_id)
WHERE clicked AND policy = 'random';
