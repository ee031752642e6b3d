CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dest = 'SEA', GROUP BY ALL;
--                                                                   ^ a comma must be followed by another item
