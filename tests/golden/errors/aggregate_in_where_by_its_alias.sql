CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights WHERE n > 3 GROUP BY carrier;
--                                                                ^ WHERE must not hold an aggregate
