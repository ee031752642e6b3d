CREATE VIEW v AS SELECT carrier count(*) AS n FROM flights GRUOP BY carrier;
--                              ^^^^^ got none before 'count'
