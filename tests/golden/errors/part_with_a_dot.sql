CREATE VIEW v AS SELECT main.count(*) AS n FROM flights;
--                      ^^^^^^^^^^^^^ must be named without a dot
