-- When something was going on, as people labelled it.
CREATE TABLE windows (
    series VARCHAR, valid_from TIMESTAMP, until TIMESTAMP NOT NULL, PRIMARY KEY (series, valid_from)
) WITH (file = 'windows.csv');

CREATE VIEW labelled AS
SELECT tweets.series,
       count(*) FILTER (WHERE read_at <= until)                         AS in_windows,
       count(*) FILTER (WHERE coalesce(read_at <= until, false) <> (label = 1)) AS otherwise,
       count(DISTINCT valid_from) FILTER (WHERE read_at <= until)       AS windows,
       last(value) AS last_value, arg_max(read_at, value) AS peak_at
FROM tweets ASOF LEFT JOIN windows
     ON windows.series = tweets.series AND tweets.read_at >= windows.valid_from
GROUP BY ALL;
