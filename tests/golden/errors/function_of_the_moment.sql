CREATE VIEW v AS SELECT count(*) AS n FROM flights WHERE ts > now() - INTERVAL 1 DAY;
--                                                            ^^^ Send its value with the event, or compare in the query
CREATE VIEW w AS SELECT count(*) AS n FROM flights WHERE ts > current_date;
--                                                            ^^^^^^^^^^^^ function 'current_date' must not be used
