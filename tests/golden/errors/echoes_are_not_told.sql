CREATE STREAM clicks (page VARCHAR, ms INTEGR) WITH (topic = 'clicks');
--                                     ^^^^^^ did you mean INTEGER?
CREATE VIEW by_page AS SELECT page, count(*) AS n, sum(ms) AS total FROM clicks GROUP BY page;
CREATE VIEW by_url AS SELECT pge, sum(ms) AS total FROM clicks GROUP BY ALL;
--                           ^^^ did you mean 'page'?
CREATE STREAM broken (a VARCHAR WITH (topic = 'broken');
--                   ^ every ( must be closed
CREATE VIEW over AS SELECT a, cuont(*) AS n FROM broken GROUP BY a;
--                            ^^^^^ did you mean 'count'?
