CREATE VIEW v AS VALUES (1);
--               ^^^^^^ query must be one plain SELECT; got VALUES
