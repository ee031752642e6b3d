CREATE VIEW v AS SELECT count(*) AS n FROM flights JOIN airports a ON dep_delay = a.iata;
--                                                                    ^^^^^^^^^ got INTEGER for its iata, VARCHAR
