CREATE VIEW v AS SELECT max(dep_delay AS m FROM flights;
--                         ^ every ( must be closed
CREATE VIEW w AS SELECT max(dep_delay)) AS m FROM flights;
--                                    ^ every ) must have a ( before it
CREATE STREAM s (a VARCHAR WITH (topic = 's');
--              ^ every ( must be closed
