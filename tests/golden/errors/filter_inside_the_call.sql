CREATE VIEW v AS SELECT sum(dep_delay FILTER (WHERE cancelled)) AS s FROM flights;
--                                    ^^^^^^ must stand behind the ) of its aggregate
