CREATE VIEW v AS SELECT count(*) AS n FROM fligths;
--                                         ^^^^^^^ did you mean 'flights'?
