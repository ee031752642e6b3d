CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights WHERE GROUP BY carrier;
--                                                          ^^^^^ WHERE must be followed by a condition
