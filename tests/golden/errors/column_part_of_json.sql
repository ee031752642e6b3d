CREATE VIEW v AS SELECT details.gate AS gate, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^^^^^^^^ is written details->>'$.gate'
