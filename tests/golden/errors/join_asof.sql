CREATE VIEW v AS SELECT count(*) AS n FROM flights ASOF LEFT JOIN airports a ON dest >= a.iata;
--                                                                ^^^^^^^^^^ on a key that ends with a DATE
