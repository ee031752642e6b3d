CREATE VIEW v AS SELECT count(*) AS n FROM (SELECT carrier FROM flights);
--                                          ^^^^^^ must not hold a subquery
CREATE VIEW w AS SELECT count(*) AS n FROM flights WHERE dest IN (SELECT iata FROM airports);
--                                                                ^^^^^^ must not hold a subquery
