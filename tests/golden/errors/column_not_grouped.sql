CREATE VIEW v AS SELECT carrier, dest, max(dep_delay) - distance AS x, count(*) AS n
--                               ^^^^ 'dest' must be grouped or aggregated
--                                                      ^^^^^^^^ 'distance' must be grouped or aggregated
FROM flights GROUP BY carrier;
