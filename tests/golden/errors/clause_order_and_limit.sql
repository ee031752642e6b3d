CREATE VIEW top AS SELECT carrier, count(*) AS n FROM flights GROUP BY carrier
  ORDER BY n DESC LIMIT 10;
--^^^^^^^^ SELECT * FROM top ORDER BY
--                ^^^^^ SELECT * FROM top LIMIT
