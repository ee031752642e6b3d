CREATE VIEW v AS SELECT count(*) AS n FROM hourly;
--                                         ^^^^^^ got 'hourly', a view, which queries read
CREATE VIEW hourly AS SELECT count(*) AS n FROM flights;
