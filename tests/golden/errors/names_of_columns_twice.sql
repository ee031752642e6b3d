CREATE VIEW v AS SELECT count(*) AS n, max(dep_delay) AS N, dest AS _dest FROM flights GROUP BY dest;
--                                                       ^ column names must differ; got 'N' twice
--                                                                  ^^^^^ must not start with an underscore
