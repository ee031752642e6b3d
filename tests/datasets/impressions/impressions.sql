-- What two policies of a shop recommended, and whether it was clicked; 'policy' is the folder's name.
CREATE STREAM impressions (
    policy           VARCHAR        NOT NULL CHECK (policy IN ('random', 'bts')),
    timestamp        TIMESTAMP      NOT NULL,
    item_id          UTINYINT       NOT NULL,
    position         TINYINT        NOT NULL CHECK (position BETWEEN 1 AND 3),
    click            TINYINT        NOT NULL,
    propensity_score DECIMAL(21,20) CHECK (propensity_score > 0),
    user_feature_0   VARCHAR,
    user_feature_1   VARCHAR,
    clicked          BOOLEAN        GENERATED ALWAYS AS (click = 1),
    segment          VARCHAR        GENERATED ALWAYS AS (user_feature_0[:4] || '-' || user_feature_1[:4])
) WITH (topic = 'impressions', event_time = 'timestamp');

CREATE TABLE items (item_id UTINYINT PRIMARY KEY, item_feature_0 DOUBLE, item_feature_1 VARCHAR)
WITH (file = 'items.csv');

CREATE VIEW policy_day AS
SELECT policy, timestamp::DATE AS day, count(*) AS impressions, sum(clicked) AS clicks,
       sum(clicked) / count(*) AS rate,
       sum(propensity_score) AS propensity, min(propensity_score) AS least_propensity
FROM impressions
GROUP BY policy, day;

CREATE VIEW feature_position AS
SELECT item_feature_1 AS feature, position, item_feature_0 > 0 AS positive,
       count(*) AS impressions, count(*) FILTER (WHERE clicked) AS clicks,
       coalesce(max(item_id) FILTER (WHERE clicked), 255) AS last_item_clicked
FROM impressions INNER JOIN items USING (item_id)
WHERE policy = 'random'
GROUP BY ALL;

CREATE VIEW segments AS
SELECT policy, segment, count(*) AS impressions, approx_count_distinct(item_id) AS items,
       approx_top_k(item_id, 2) AS most_shown, approx_quantile(propensity_score, 0.5) AS median
FROM impressions
GROUP BY 1, 2;
