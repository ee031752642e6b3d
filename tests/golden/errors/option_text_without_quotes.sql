CREATE STREAM s (a VARCHAR) WITH (topic = clicks);
--                                        ^^^^^^ A text stands in single quotes: 'clicks'
CREATE STREAM t (a VARCHAR) WITH (topic = "clicks");
--                                        ^^^^^^^^ A text stands in single quotes: 'clicks'
