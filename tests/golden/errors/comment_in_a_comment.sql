CREATE VIEW v AS SELECT count(*) AS n FROM flights; /* one /* two */
--                                                         ^^ a comment in a comment that is not closed
