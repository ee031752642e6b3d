CREATE VIEW v AS SELECT carrier, dest, count(*) AS n, count(*) FILTER (WHERE dep_delay > 15) AS late, max(dep_dely) AS latest, min(dep_delay) AS earliest, max(ts) AS last FROM flights GROUP BY ALL;
--                                                                                                        ^^^^^^^^ did you mean 'dep_delay'?
