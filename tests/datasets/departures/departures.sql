-- Flights within the United States: an object per flight, its time in milliseconds since 1970.
CREATE STREAM departures (
    ms          BIGINT   NOT NULL,
    delay       SMALLINT,
    distance    SMALLINT CHECK (distance > 0),
    origin      VARCHAR  NOT NULL CHECK (length(origin) = 3),
    destination VARCHAR  NOT NULL,
    moment      TIMESTAMP GENERATED ALWAYS AS (epoch_ms(ms)),
    night       BOOLEAN   GENERATED ALWAYS AS (extract(hour FROM epoch_ms(ms)) NOT BETWEEN 6 AND 21)
) WITH (topic = 'departures', event_time = 'moment');

CREATE VIEW airport_day AS
SELECT origin, moment::DATE AS day, count(*) AS flights,
       count(*) FILTER (WHERE delay > 15) AS late,
       100.0 * count(*) FILTER (WHERE delay > 15) / count(*) AS late_pct,
       avg(delay) AS mean_delay, sum(distance) AS miles, max(delay) AS worst
FROM departures
GROUP BY ALL;

CREATE VIEW routes AS
SELECT least(origin, destination) || '-' || greatest(origin, destination) AS route,
       count(*) AS flights, avg(delay) FILTER (WHERE NOT night) AS mean_by_day,
       min(distance) AS miles, max(distance) = min(distance) AS one_distance
FROM departures
GROUP BY route;

CREATE VIEW airports AS
SELECT origin, approx_count_distinct(destination) AS destinations, approx_top_k(destination, 3) AS top,
       approx_quantile(delay, [0.1, 0.5, 0.9]) AS delays, approx_quantile(distance, 0.5) AS miles
FROM departures
GROUP BY origin;

CREATE VIEW everything AS
SELECT count(*) AS flights, sum(delay) AS delay, min(moment) AS first_at, max(moment) AS last_at
FROM departures;
