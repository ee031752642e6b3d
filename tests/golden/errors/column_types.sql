CREATE STREAM s (
    a VARCHER,
--    ^^^^^^^ did you mean VARCHAR?
    b FLOAT,
--    ^^^^^ got FLOAT. Use DOUBLE
    c VARCHAR[],
--    ^^^^^^^^^ got VARCHAR[]. Use JSON
    d DECIMAL(50, 2),
--    ^^^^^^^^^^^^^^ DECIMAL must have 1 to 38 digits
    e,
--  ^ must have a type; got none
    a INTEGER
--  ^ must be declared once
) WITH (topic = 's');
