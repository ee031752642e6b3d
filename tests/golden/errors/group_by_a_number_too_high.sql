CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY 3;
--                                                                   ^ a column of 1 to 2 or an expression; got 3
