CREATE VIEW v AS SELECT upper(carrier, 3) AS c, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^^^^ 'upper(VARCHAR, INTEGER_LITERAL)'
CREATE VIEW w AS SELECT if(cancelled) AS c, count(*) AS n FROM flights GROUP BY ALL;
--                      ^^ function 'if' must be called with the arguments that it takes
