CREATE VIEW v AS SELECT string_agg(carrier) AS s FROM flights;
--                      ^^^^^^^^^^ got 'string_agg'
