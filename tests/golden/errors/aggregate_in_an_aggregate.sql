CREATE VIEW v AS SELECT max(count(*)) AS n FROM flights;
--                          ^^^^^ cannot be nested
