CREATE STREAM s (a VARCHAR, x DOUBLE, PRIMARY KEY (a, b, a, x)) WITH (topic = 's');
--                                                    ^ must name a column; got 'b'
--                                                       ^ once; got it twice
--                                                          ^ must not be DOUBLE
CREATE STREAM t (a VARCHAR PRIMARY KEY, b VARCHAR PRIMARY KEY) WITH (topic = 's');
--                                      ^ must have one primary key; got another
