CREATE VIEW in_doubles AS
SELECT series, sum(CAST(value AS DOUBLE)) AS total, avg(CAST(value AS DOUBLE)) AS mean,
       var_samp(value) AS variance, median(value) AS middle, mode(CAST(value * 10 AS INTEGER)) AS usual
FROM prices
GROUP BY series;
