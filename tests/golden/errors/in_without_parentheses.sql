CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dest IN 'SEA', 'SFO';
--                                                            ^^ Write IN ('SEA', ...)
