CREATE VIEW v AS SELECT `carrier`, count(*) AS n FROM flights GROUP BY ALL;
--                      ^ names must stand in double quotes or none
