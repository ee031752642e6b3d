CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights GROUP BY carrier HAVING count(*) > 3;
--                                                                           ^^^^^^ filter in the query: SELECT * FROM v WHERE
