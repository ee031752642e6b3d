CREATE VIEW v AS SELECT carrier,, count(*) AS n FROM flights GROUP BY carrier;
--                              ^ Leave it out
