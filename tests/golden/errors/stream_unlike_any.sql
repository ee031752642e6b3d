CREATE VIEW v AS SELECT count(*) AS n FROM sales;
--                                         ^^^^^ There is flights, weather
