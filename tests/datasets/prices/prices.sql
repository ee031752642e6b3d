-- What online advertisements cost, hourly: per click (cpc), per thousand impressions (cpm).
CREATE STREAM prices (
    series   VARCHAR        NOT NULL,
    said     VARCHAR        NOT NULL,
    value    DECIMAL(27,15) NOT NULL CHECK (value > 0),
    moment   TIMESTAMP      GENERATED ALWAYS AS (strptime(said, '%Y-%m-%d %H:%M:%S')),
    exchange UTINYINT       GENERATED ALWAYS AS (regexp_extract(series, 'exchange-(\d)', 1)),
    unit     VARCHAR        GENERATED ALWAYS AS (series[-3:])
) WITH (topic = 'prices', format = 'csv', event_time = 'moment');

CREATE VIEW weeks AS
SELECT unit, exchange, date_trunc('week', moment) AS week, count(*) AS hours, sum(value) AS total,
       avg(value) AS mean, min(value) AS least, max(value) AS most
FROM prices
GROUP BY ALL;

CREATE VIEW ratio AS
SELECT exchange,
       sum(value) FILTER (WHERE unit = 'cpm') / sum(value) FILTER (WHERE unit = 'cpc') AS cpm_per_cpc,
       CASE WHEN max(value) FILTER (WHERE unit = 'cpc') > 1 THEN 'dear' ELSE 'cheap' END AS clicks_are
FROM prices
GROUP BY exchange;
