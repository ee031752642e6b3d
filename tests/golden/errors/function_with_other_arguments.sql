CREATE VIEW v AS SELECT round(carrier) AS a, upper(dep_delay) AS b, sum(distance + dest) AS s
--                      ^^^^^ 'round(VARCHAR)'
--                                           ^^^^^ 'upper(INTEGER)'
--                                                                               ^ '+(DOUBLE, VARCHAR)'
FROM flights GROUP BY ALL;
