CREATE VIEW v AS SELECT carrier, count(*) AS n FROM flights WHERE dest = ‘SEA’ GROUP BY carrier;
--                                                                       ^^^^^ A text stands in single quotes: 'SEA'
