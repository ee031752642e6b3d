CREATE STREAM s (a VARCHAR) (topic = 's');
--                          ^ where WITH must stand
CREATE STREAM t (a VARCHAR) WIHT (topic = 's');
--                          ^^^^ did you mean 'WITH'?
