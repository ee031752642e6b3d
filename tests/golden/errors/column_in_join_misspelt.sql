CREATE VIEW v AS SELECT city, count(*) AS n
FROM flights JOIN airports a ON flights.dest = a.iat GROUP BY ALL;
--                                             ^^^^^ did you mean 'iata'?
