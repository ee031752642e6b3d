CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dest = 'SEA GROUP BY carrier;
--                                                              ^ got a string that never ends
