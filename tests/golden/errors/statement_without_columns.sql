CREATE STREAM s;
--            ^ got no columns
CREATE STREAM t a VARCHAR WITH (topic = 't');
--              ^ got 'a' where ( must stand
CREATE STREAM u () WITH (topic = 'u');
--            ^ must declare at least one column
