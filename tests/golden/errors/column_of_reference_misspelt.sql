CREATE VIEW v AS SELECT cty, count(*) AS n
--                      ^^^ did you mean 'city'?
FROM flights JOIN airports a ON flights.dest = a.iata GROUP BY ALL;
