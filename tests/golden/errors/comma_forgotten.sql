CREATE VIEW v AS SELECT carrier, max(dep_delay) AS x count(*) AS n FROM flights GROUP BY carrier;
--                                                   ^^^^^ got none before 'count'
CREATE STREAM s (a VARCHAR b INTEGER) WITH (topic = 's');
--                         ^ got none before 'b'
