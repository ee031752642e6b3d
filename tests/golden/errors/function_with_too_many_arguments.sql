CREATE VIEW v AS SELECT upper(carrier, 3) AS c, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^ function 'upper' must be called with the arguments that it takes
