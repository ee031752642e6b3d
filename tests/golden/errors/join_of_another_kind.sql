CREATE VIEW v AS SELECT count(*) AS n FROM flights RIGHT JOIN airports a ON dest = a.iata;
--                                                 ^^^^^ got RIGHT JOIN
