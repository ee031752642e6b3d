CREATE STREAM s (a VARCHAR) WITH (topic = 's', topic = 't', format = 3);
--                                             ^^^^^ must stand once; got it twice
--                                                          ^^^^^^ must be a quoted text; got 3
