CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dep_delay > AND cancelled;
--                                                                   ^^^ got 'AND' where a value must stand
CREATE VIEW w AS SELECT sum(dep_delay) / FROM flights;
--                                       ^^^^ got 'FROM' where a value must stand
CREATE VIEW x AS SELECT count(*) AS n FROM flights AND cancelled;
--                                                 ^^^ got 'AND', which cannot stand here
