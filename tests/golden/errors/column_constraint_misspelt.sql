CREATE STREAM s (a VARCHAR PRIMRY KEY, b INTEGER) WITH (topic = 's');
--                         ^^^^^^ did you mean PRIMARY?
