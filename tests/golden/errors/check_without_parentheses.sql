CREATE STREAM s (a VARCHAR, c INTEGER CHECK c > 3) WITH (topic = 's');
--                                    ^^^^^ Write CHECK (c > 3)
