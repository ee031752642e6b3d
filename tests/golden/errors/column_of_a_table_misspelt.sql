CREATE VIEW v AS SELECT a.cty, count(*) AS n
--                      ^^^^^ column must be a declared one of a; got a.cty; did you mean 'city'?
FROM flights JOIN airports a ON flights.dest = a.iata GROUP BY ALL;
