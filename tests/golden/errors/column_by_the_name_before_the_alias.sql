CREATE VIEW v AS SELECT flights.carrier, count(*) AS n FROM flights f GROUP BY ALL;
--                      ^^^^^^^^^^^^^^^ 'flights' is called 'f' here
