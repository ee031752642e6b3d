CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP carrier;
--                                                          ^^^^^ GROUP must be followed by BY
