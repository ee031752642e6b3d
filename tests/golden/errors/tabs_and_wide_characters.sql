CREATE VIEW v AS
	SELECT '航班' AS kind,	'é' AS e, carier, count(*) AS n
--                              ^^^^^^ did you mean 'carrier'?
	FROM flights GROUP BY ALL;
