CREATE VIEW v AS SELECT sum(CASE WHEN cancelled THEN 1 ELSE 0) AS n FROM flights;
--                          ^^^^ CASE must be closed by END
