-- How often companies are named in tweets, every five minutes, with the scores of a detector:
-- a CSV line "series,row,timestamp,value,anomaly_score,label,...", the first two from the file.
CREATE STREAM tweets (
    series  VARCHAR       NOT NULL,
    row_no  INTEGER       NOT NULL,
    read_at TIMESTAMP     NOT NULL,
    value   INTEGER       CHECK (value >= 0),
    score   DECIMAL(22,20),
    label   TINYINT,
    low_fp  VARCHAR,
    low_fn  VARCHAR,
    reward  VARCHAR,
    PRIMARY KEY (series, row_no)
) WITH (topic = 'tweets', format = 'csv', event_time = 'read_at');

-- rows that are not judged: the first 15 %, at most 750
CREATE TABLE detectors (series VARCHAR PRIMARY KEY, probation INTEGER NOT NULL) WITH (file = 'detectors.csv');

CREATE VIEW confusion AS
SELECT series,
       count(*) FILTER (WHERE row_no > probation AND score >= 1 AND label = 1) AS tp,
       count(*) FILTER (WHERE row_no > probation AND score < 1 AND label = 0)  AS tn,
       count(*) FILTER (WHERE row_no > probation AND score >= 1 AND label = 0) AS fp,
       count(*) FILTER (WHERE row_no > probation AND score < 1 AND label = 1)  AS fn,
       count(*) AS total_count
FROM tweets INNER JOIN detectors USING (series)
GROUP BY series;

CREATE VIEW quarter_hours AS
SELECT series, time_bucket(INTERVAL '15 minutes', read_at, TIMESTAMP '2015-01-01 00:05:00') AS quarter,
       sum(value) AS tweets, max(value) - min(value) AS spread, count(value) AS readings
FROM tweets
GROUP BY ALL;

CREATE VIEW levels AS
SELECT series, approx_quantile(value, [0.25, 0.5, 0.75]) AS quartiles,
       approx_quantile(value, 1) AS peak, avg(value) AS mean,
       approx_count_distinct(value) AS different
FROM tweets
GROUP BY series;
