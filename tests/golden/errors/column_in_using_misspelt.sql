CREATE VIEW v AS SELECT city, count(*) AS n FROM flights JOIN airports USING (itaa) GROUP BY ALL;
--                                                                            ^^^^ did you mean 'iata'?
