CREATE VIEW delays AS
SELECT carrier, dep_dealy AS delay, count(*) AS n
--              ^^^^^^^^^ did you mean 'dep_delay'?
FROM flights GROUP BY ALL;
