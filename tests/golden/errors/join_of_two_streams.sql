CREATE VIEW v AS SELECT count(*) AS n FROM flights JOIN weather w ON dest = w.station;
--                                                      ^^^^^^^ Declare a view for each and join the views in the query
