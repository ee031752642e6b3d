CREATE VIEW v AS SELECT flight.carrier, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^^^^^^^^^^ table before the dot must be 'flights'; got flight.carrier; did you mean 'flights'?
