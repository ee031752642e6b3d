CREATE VIEW v AS SELECT count(*) AS n FROM flights JOIN airport a ON dest = a.iata;
--                                                      ^^^^^^^ got 'airport'; did you mean 'airports'?
