CREATE VIEW v AS SELECT count(*) AS n FROM flights
   CREATE VIEW w AS SELECT count(*) AS n FROM flights;
-- ^^^^^^^^^^^ got none before CREATE VIEW
