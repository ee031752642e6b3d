CREATE VIEW v AS SELECT sum(dep_delay ORDER BY ts) AS n FROM flights;
--                      ^^^^^^^^^^^^^^^^^^^^^^^^^^ must not have an order of its own
