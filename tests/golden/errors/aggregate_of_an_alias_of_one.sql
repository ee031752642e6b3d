CREATE VIEW v AS SELECT sum(dep_delay) AS total, avg(total) AS a FROM flights;
--                                                   ^^^^^ aggregates cannot be nested
