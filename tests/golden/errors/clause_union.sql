CREATE VIEW v AS SELECT count(*) AS n FROM flights UNION ALL SELECT count(*) AS n FROM weather;
--                                                 ^^^^^ Declare a view for each
