   CREAT STREAM s (a VARCHAR) WITH (topic = 's');
-- ^^^^^ did you mean CREATE?
CREATE STERAM t (a VARCHAR) WITH (topic = 's');
--     ^^^^^^ did you mean CREATE STREAM?
CREATE VEIW v AS SELECT count(*) AS n FROM s;
--     ^^^^ did you mean CREATE VIEW?
CREATE VIEW w AS SELECT count(*) AS n FROM s;
