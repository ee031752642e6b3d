CREATE VIEW v AS SELECT date_trunc('huor', ts) AS h, count(*) AS n FROM flights GROUP BY ALL;
--                                 ^^^^^^ did you mean 'hour'?
CREATE VIEW w AS SELECT time_bucket(INTERVAL 15 minuets, ts) AS h, count(*) AS n FROM flights GROUP BY ALL;
--                                              ^^^^^^^ did you mean MINUTE?
