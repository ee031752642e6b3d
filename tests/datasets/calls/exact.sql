CREATE VIEW callers AS
SELECT caller,
       count(DISTINCT callee)                       AS callees,
       median(duration) FILTER (WHERE answered)     AS median_seconds,
       mode(callee)                                 AS favourite,
       arg_max(callee, duration)                    AS longest_with,
       first(callee)                                AS first_callee,
       last(callee) FILTER (WHERE answered)         AS last_callee,
       histogram(CAST(extract(hour FROM moment) AS UTINYINT)) AS hours,
       stddev_samp(duration) FILTER (WHERE answered) AS spread,
       bool_or(answered)                            AS ever_answered
FROM calls
GROUP BY caller;
