CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY carrier WHERE dep_delay > 15;
--                                                                           ^^^^^ WHERE must stand before GROUP BY
