CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY CUBE (carrier);
--                                                          ^^^^^^^^ grouping sets; declare a view for each
