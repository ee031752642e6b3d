CREATE VIEW v AS SELECT dep_delay::DUOBLE AS d, count(*) AS n FROM flights GROUP BY ALL;
--                                 ^^^^^^ did you mean 'DOUBLE'?
