CREATE VIEW airport_hours AS
SELECT origin, extract(hour FROM moment) AS hour, count(DISTINCT destination) AS destinations,
       quantile_cont(delay, [0.5, 0.9]) AS delays, histogram(delay // 60) AS hours_late,
       arg_max(destination, distance) AS furthest, stddev_samp(delay) AS spread
FROM departures
GROUP BY ALL;
