CREATE VIEW v AS SELECT count(*) AS n FROM flights JOIN airports a ON dest = city;
--                                                                    ^^^^^^^^^^^ on its primary key, iata
