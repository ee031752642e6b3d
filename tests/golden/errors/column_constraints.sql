CREATE STREAM s (
    a VARCHAR UNIQUE,
--            ^^^^^^ got UNIQUE
    b INTEGER DEFAULT 3,
--            ^^^^^^^ got DEFAULT 3
    c INTEGER,
    UNIQUE (c)
--  ^^^^^^ constraint must be PRIMARY KEY or CHECK; got UNIQUE
) WITH (topic = 's');
