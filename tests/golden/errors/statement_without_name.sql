   CREATE VIEW;
-- ^^^^^^^^^^^ must be followed by a name; got nothing
CREATE VIEW main.v AS SELECT count(*) AS n FROM flights;
--          ^^^^ must be a name alone; got one with a dot
   VIEW w AS SELECT count(*) AS n FROM flights;
-- ^^^^ did you mean CREATE VIEW?
