CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights WHERE count(*) > 3 GROUP BY carrier;
--                                                                ^^^^^^^^ WHERE must not hold an aggregate
