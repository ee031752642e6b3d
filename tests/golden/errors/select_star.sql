CREATE VIEW v AS SELECT * FROM weather;
--                      ^ name the columns: station, at, wind
