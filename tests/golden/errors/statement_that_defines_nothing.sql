   SELECT count(*) FROM flights;
-- ^^^^^^ A query is run by `everview sql`
   INSERT INTO flights VALUES (1);
-- ^^^^^^ Events are sent to a stream by `everview produce`
   DROP VIEW hourly;
-- ^^^^ got DROP VIEW. Nothing else is run
