CREATE VIEW a AS SELCT carrier, count(*) AS n FROM flights GROUP BY carrier;
--               ^^^^^ did you mean SELECT?
CREATE VIEW b AS SELECT carrier, count(*) AS n FORM flights GROUP BY carrier;
--                                             ^^^^ did you mean FROM?
CREATE VIEW c AS SELECT carrier, count(*) AS n FROM flights WEHRE dep_delay > 3 GROUP BY carrier;
--                                                          ^^^^^ did you mean WHERE?
CREATE VIEW d AS SELECT carrier, count(*) AS n FROM flights GRUOP BY carrier;
--                                                          ^^^^^ did you mean GROUP?
CREATE VIEW e AS SELECT count(*) FLITER (WHERE dep_delay > 3) AS n FROM flights;
--                               ^^^^^^ did you mean FILTER?
