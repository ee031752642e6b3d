CREATE VIEW v AS SELECT dep_delay AS a0, a0+a0 AS a1, a1+a1 AS a2, a2+a2 AS a3, a3+a3 AS a4, a4+a4 AS a5,
a5+a5 AS a6, a6+a6 AS a7, a7+a7 AS a8,
a8+a8 AS a9, count(*) AS c FROM flights GROUP BY ALL;
-- at 3:1 (11): column 'a9' must come to at most 2,000 parts
