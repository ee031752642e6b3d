CREATE VIEW v AS WITH f AS (SELECT 1 AS one) SELECT count(*) AS n FROM flights;
--               ^^^^ must not hold WITH
