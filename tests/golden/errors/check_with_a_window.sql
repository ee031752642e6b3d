CREATE STREAM s (a INTEGER CHECK (a > row_number() OVER ())) WITH (topic = 's');
--                                    ^^^^^^^^^^ must not hold a window function
