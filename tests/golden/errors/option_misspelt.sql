CREATE STREAM s (a VARCHAR) WITH (topik = 's', formt = 'csv');
--                                ^^^^^ did you mean 'topic'?
--                                             ^^^^^ did you mean 'format'?
CREATE VIEW v WITH (rebild = '@daily') AS SELECT count(*) AS n FROM flights;
--                  ^^^^^^ did you mean 'rebuild'?
