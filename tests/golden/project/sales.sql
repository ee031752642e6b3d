-- A view of each kind over two streams, small enough that the SQL they become can be read.
CREATE STREAM sales (
    id     VARCHAR PRIMARY KEY,
    ts     TIMESTAMP NOT NULL,
    shop   VARCHAR,
    amount INTEGER CHECK (amount >= 0),
    price  DECIMAL(12,2),
    weight DOUBLE,
    basket JSON,
    items  INTEGER GENERATED ALWAYS AS (basket->>'$.items')
) WITH (topic = 'sales', format = 'json', null = 'NA', event_time = 'ts', dedup_within = '1 hour');

CREATE STREAM visits (
    shop VARCHAR NOT NULL,
    day  DATE,
    late BOOLEAN,
    PRIMARY KEY (shop, day)
) WITH (topic = 'visits', format = 'csv');

CREATE TABLE shops (shop VARCHAR PRIMARY KEY, city VARCHAR) WITH (file = 'shops.csv', null = '-');

CREATE VIEW core_columns AS
SELECT shop, time_bucket(INTERVAL '1 hour', ts) AS hour, count(*) AS n, count(amount) AS known,
       sum(amount) AS total, avg(price) AS mean, min(weight) AS least, max(items) AS most
FROM sales GROUP BY ALL;

CREATE VIEW expressions AS
SELECT upper(shop) AS name, 100.0 * count(*) FILTER (WHERE amount > 1) / count(*) AS share,
       CASE WHEN sum(amount) > 3 THEN 'much' ELSE 'little' END AS size
FROM sales WHERE price IS NOT NULL GROUP BY shop;

CREATE VIEW one_row AS SELECT count(*) AS n, max(ts) AS last FROM sales;

CREATE VIEW joined AS
SELECT city, sum(price) AS turnover FROM sales LEFT JOIN shops USING (shop) GROUP BY city;

CREATE VIEW wide AS
SELECT shop, approx_count_distinct(id) FILTER (WHERE amount > 0) AS sales, count(*) AS n
FROM sales GROUP BY shop;

CREATE VIEW visits_of_day AS SELECT day, late, count(*) AS n FROM visits GROUP BY day, late;

CREATE VIEW shared AS
SELECT shop, count(amount) AS known, sum(amount) AS total, avg(amount) AS mean,
       sum(amount) / count(amount) AS again, approx_quantile(price, 0.5) AS middle,
       approx_quantile(price, [0, 1]) AS ends
FROM sales GROUP BY shop;

CREATE VIEW filtered AS
SELECT time_bucket(INTERVAL '1 day', ts) AS day, sum(price) FILTER (WHERE shop = 'a') AS of_a,
       avg(price) FILTER (WHERE shop = 'a') AS mean_of_a, min(shop) FILTER (WHERE amount > 3) AS most,
       approx_quantile(weight, 0.9) FILTER (WHERE weight > 0) AS heavy
FROM sales WHERE id <> '9' AND (amount IS NULL OR amount < 100) GROUP BY day;

CREATE VIEW top_shops AS SELECT approx_top_k(shop, 2) AS shops, approx_count_distinct(id) AS n FROM sales;

CREATE VIEW hidden_keys AS
SELECT count(*) AS n, max(amount) - min(amount) AS spread
FROM sales GROUP BY weight, coalesce(shop, 'none'), items > 2;

CREATE VIEW keys_alone AS SELECT shop, ts::DATE AS day FROM sales GROUP BY 1, 2;

CREATE VIEW inner_joined AS
SELECT s.city AS town, upper(s.city) || '/' || count(*)::VARCHAR AS label,
       CASE WHEN count(*) > 1 THEN coalesce(sum(v.price), 0) ELSE -1 END AS turnover,
       sum(length(s.city)) AS letters
FROM sales AS v JOIN shops s ON v.shop = s.shop WHERE s.city IS NOT NULL GROUP BY town;
