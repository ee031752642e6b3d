CREATE VIEW my-view AS SELECT count(*) AS n FROM flights;
--          ^^^^^^^ got 'my-view'
CREATE VIEW "a b" AS SELECT count(*) AS n FROM flights;
--          ^^^^^ got 'a b'
CREATE VIEW raw AS SELECT count(*) AS n FROM flights;
--          ^^^ name 'raw' of a view is reserved
CREATE VIEW Flights AS SELECT count(*) AS n FROM flights;
--          ^^^^^^^ must be used once, whatever its case
