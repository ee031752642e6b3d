CREATE OR REPLACE VIEW v AS SELECT count(*) AS n FROM flights;
--     ^^^^^^^^^^ Leave it out: `everview deploy` registers
CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM flights;
--     ^^^^^^^^^^^^ Leave it out: every view is kept
CREATE VIEW IF NOT EXISTS x AS SELECT count(*) AS n FROM flights;
--          ^^ Leave it out: `everview deploy` registers
