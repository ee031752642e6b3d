CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dest = $tag$SEA;
--                                                              ^ got a string that never ends
