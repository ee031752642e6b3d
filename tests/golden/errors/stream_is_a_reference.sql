CREATE VIEW v AS SELECT count(*) AS n FROM airports;
--                                         ^^^^^^^^ got 'airports', a reference
