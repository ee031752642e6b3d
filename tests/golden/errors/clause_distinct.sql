CREATE VIEW v AS SELECT DISTINCT carrier FROM flights;
--                      ^^^^^^^^ use GROUP BY ALL
