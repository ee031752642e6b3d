CREATE VIEW v AS SELECT details, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^^^ got JSON. CAST it to one of them
