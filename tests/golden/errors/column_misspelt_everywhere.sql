CREATE VIEW delays AS
SELECT carier, sum(dep_dely) AS total
--     ^^^^^^ did you mean 'carrier'?
--                 ^^^^^^^^ did you mean 'dep_delay'?
FROM flights WHERE dst = 'SEA'
--                 ^^^ did you mean 'dest'?
GROUP BY carier;
--       ^^^^^^ did you mean 'carrier'?
