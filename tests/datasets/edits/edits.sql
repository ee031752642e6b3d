-- Edits of Wikipedias, a JSON object per edit, as the tutorial of a well-known store has them.
CREATE STREAM edits (
    time           TIMESTAMP NOT NULL,
    channel        VARCHAR   NOT NULL CHECK (channel LIKE '#%'),
    page           VARCHAR   NOT NULL,
    user           VARCHAR   NOT NULL,
    namespace      VARCHAR,
    cityName       VARCHAR,
    countryIsoCode VARCHAR,
    isAnonymous    BOOLEAN,
    isRobot        BOOLEAN,
    added          INTEGER   CHECK (added >= 0),
    deleted        INTEGER   CHECK (deleted >= 0),
    delta          INTEGER,
    language       VARCHAR   GENERATED ALWAYS AS (split_part(channel[2:], '.', 1)),
    kind           VARCHAR   GENERATED ALWAYS AS (
        CASE WHEN isRobot THEN 'robot' WHEN isAnonymous THEN 'anonymous' ELSE 'known' END)
) WITH (topic = 'edits', format = 'json', event_time = 'time');

CREATE VIEW by_language AS
SELECT language, time_bucket(INTERVAL '1 hour', time) AS hour,
       count(*)                                  AS edits,
       count(*) FILTER (WHERE kind = 'robot')    AS by_robots,
       sum(delta)                                AS growth,
       sum(added) - sum(deleted) = sum(delta)    AS adds_up,
       avg(delta)                                AS mean_growth,
       max(page)                                 AS last_page
FROM edits
GROUP BY ALL;

CREATE VIEW of_countries AS
SELECT countryIsoCode AS country, count(*) AS edits, count(cityName) AS with_city,
       approx_count_distinct(user) AS users, min(time) AS first_seen
FROM edits
WHERE countryIsoCode IS NOT NULL
GROUP BY country;

CREATE VIEW local_days AS
SELECT (time AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Tokyo')::DATE       AS day_in_tokyo,
       (time AT TIME ZONE 'UTC' AT TIME ZONE 'America/Los_Angeles')::DATE AS day_in_los_angeles,
       kind, count(*) AS edits, sum(abs(delta)) AS moved
FROM edits
GROUP BY ALL;

CREATE VIEW all_edits AS
SELECT count(*) AS edits, approx_count_distinct(page) AS pages,
       approx_count_distinct(user) FILTER (WHERE NOT isAnonymous) AS known_users,
       approx_top_k(channel, 4) AS channels,
       approx_quantile(delta, 0.05) AS p05, approx_quantile(delta, 0.95) AS p95,
       min(delta) AS least, max(delta) AS most
FROM edits;
