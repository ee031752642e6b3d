CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE carrier = ?;
--                                                                 ^ must not hold a parameter
