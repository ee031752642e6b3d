CREATE VIEW v AS SELECT ts - ts AS span, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^^^ got INTERVAL. CAST it to
