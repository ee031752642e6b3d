CREATE VIEW v AS SELECT carrier, count(*) WHERE dep_delay > 15 AS late FROM flights GROUP BY carrier;
--                                        ^^^^^ Write count(*) FILTER (WHERE dep_delay > 15)
CREATE VIEW w AS SELECT carrier, count(*) (WHERE dep_delay > 15) AS late FROM flights GROUP BY carrier;
--                                         ^^^^^ Write count(*) FILTER (WHERE dep_delay > 15)
