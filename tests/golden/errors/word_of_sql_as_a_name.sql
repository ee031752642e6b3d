CREATE VIEW select AS SELECT count(*) AS n FROM flights;
--          ^^^^^^ name 'select' is a word of SQL
CREATE VIEW v AS SELECT count(*) AS select FROM flights;
--                                  ^^^^^^ name must be no word of SQL
