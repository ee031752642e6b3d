CREATE VIEW v SELECT count(*) AS n FROM flights;
--            ^^^^^^ got 'SELECT' without AS before it
