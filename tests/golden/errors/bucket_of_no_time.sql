CREATE VIEW v AS SELECT time_bucket(INTERVAL 0 HOUR, ts) AS h, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ must have a width above 0
