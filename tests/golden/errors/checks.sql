CREATE STREAM s (
    a VARCHAR CHECK (a <> '' AND bb > 0),
--                               ^^ did you mean 'b'?
    b INTEGER CHECK (b + 1),
--                   ^^^^^ CHECK must be a condition; got INTEGER: b + 1
    CHECK (a IN (SELECT iata FROM airports))
--               ^^^^^^ must not hold a subquery
) WITH (topic = 's');
