CREATE VIEW v AS SELECT sum(carrier) AS s, count(*) AS n FROM flights;
--                      ^^^ 'sum(VARCHAR)'
