CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY 2;
--                                                                   ^ GROUP BY must not name an aggregate
