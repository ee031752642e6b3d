CREATE VIEW v AS SELECT carrier, count(flights) AS n FROM flights GROUP BY ALL;
--                                     ^^^^^^^ write count(*)
