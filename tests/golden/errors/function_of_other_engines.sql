CREATE VIEW v AS SELECT nvl(carrier, '?') AS c, to_char(ts) AS t, count(*) AS n
--                      ^^^ use coalesce(x, y)
--                                              ^^^^^^^ use strftime(x, '%Y-%m-%d')
FROM flights GROUP BY ALL;
