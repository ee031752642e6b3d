CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE dep_delay => 15;
--                                                                 ^^ did you mean '>='?
