CREATE VIEW v AS SELECT date_trnc('hour', ts) AS hour, lenght(carrier) AS l, count(*) AS n
--                      ^^^^^^^^^ did you mean 'date_trunc'?
--                                                     ^^^^^^ did you mean 'length'?
FROM flights GROUP BY ALL;
