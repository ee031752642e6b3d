-- Phone calls among students: a CSV line per call, seconds since the study began, -1 for a missed one.
CREATE STREAM calls (
    second   INTEGER   NOT NULL CHECK (second >= 0),
    caller   INTEGER   NOT NULL,
    callee   INTEGER   NOT NULL,
    duration INTEGER   CHECK (duration >= -1),
    moment   TIMESTAMP GENERATED ALWAYS AS (TIMESTAMP '2014-02-02' + to_seconds(second)),
    answered BOOLEAN   GENERATED ALWAYS AS (duration >= 0),
    PRIMARY KEY (second, caller, callee)
) WITH (topic = 'calls', format = 'csv', event_time = 'moment');

CREATE TABLE students (student INTEGER PRIMARY KEY, female TINYINT NOT NULL) WITH (file = 'students.csv');

CREATE TABLE friends (low INTEGER, high INTEGER, PRIMARY KEY (low, high)) WITH (file = 'friends.csv');

CREATE VIEW by_hour AS
SELECT extract(hour FROM moment)                              AS hour,
       count(*)                                               AS calls,
       count(*) FILTER (WHERE NOT answered)                   AS missed,
       round(100.0 * count(*) FILTER (WHERE NOT answered) / count(*), 2) AS missed_pct,
       sum(duration) FILTER (WHERE answered)                  AS seconds,
       avg(duration) FILTER (WHERE answered)                  AS mean_seconds,
       max(duration)                                          AS longest
FROM calls
GROUP BY ALL;

CREATE VIEW by_pair AS
SELECT a.female AS caller_female, b.female AS callee_female,
       count(*) AS calls, sum(greatest(duration, 0)) AS seconds,
       min(moment) AS first_call, max(moment) AS last_call
FROM calls
     LEFT JOIN students a ON a.student = caller
     LEFT JOIN students b ON b.student = callee
GROUP BY 1, 2;

CREATE VIEW of_friends AS
SELECT moment::DATE AS day, count(*) AS calls, approx_count_distinct(caller) AS callers
FROM calls JOIN friends ON low = least(caller, callee) AND high = greatest(caller, callee)
GROUP BY day;

CREATE VIEW all_calls AS
SELECT count(*) AS calls, approx_count_distinct(caller) AS callers,
       approx_quantile(duration, [0, 0.5, 0.9, 1]) FILTER (WHERE answered) AS seconds,
       approx_top_k(caller, 3) AS busiest,
       max(moment) - min(moment) AS span
FROM calls;
