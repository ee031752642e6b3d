CREATE VIEW v AS SELECT 1 AS one;
--               ^^^^^^ got no FROM
