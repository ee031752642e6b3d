CREATE STREAM s (a VARCHAR) WITH (topic = 's' format = 'csv');
--                                            ^^^^^^ got 'format' where a comma or ) must stand
