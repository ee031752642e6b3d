CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY 3;
--                                                                   ^ GROUP BY position must be 1 to 2; got 3
