CREATE VIEW v AS SELECT carrier, rank() OVER (ORDER BY ts) AS r FROM flights;
--                               ^^^^^^^^^^^^^^^^^^^^^^^^^ a window function; use it in the query
