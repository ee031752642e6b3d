CREATE STREAM s (
    a VARCHAR,
    b INTEGER GENERATED ALWAYS AS (lenght(a)),
--                                 ^^^^^^ did you mean 'length'?
    c INTEGER GENERATED ALWAYS AS (length(aa)),
--                                        ^^ did you mean 'a'?
    d INTEGER GENERATED ALWAYS AS (length(a) + a),
--                                           ^ '+(BIGINT, VARCHAR)'
    e TIMESTAMP GENERATED ALWAYS AS (now()),
--                                   ^^^ function 'now' must not be used
    f INTEGER GENERATED ALWAYS AS (coalesce(max(b), 0)),
--                                          ^^^ aggregate 'max' must stand in a view
    g INTEGER GENERATED ALWAYS AS (h),
--  ^ got g reads h reads g
    h INTEGER GENERATED ALWAYS AS (g)
) WITH (topic = 's');
