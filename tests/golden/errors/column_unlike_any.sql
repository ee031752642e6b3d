CREATE VIEW v AS SELECT zzzzzz, count(*) AS n FROM weather GROUP BY ALL;
--                      ^^^^^^ There is station, at, wind
