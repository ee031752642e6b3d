CREATE VIEW v AS SELECT carrier, cuont(*) AS n FROM flights GROUP BY carrier;
--                               ^^^^^ did you mean 'count'?
