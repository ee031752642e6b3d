CREATE VIEW v AS SELECT count(*) AS n FROM flights, airports;
--                                                  ^^^^^^^^ got no condition
