CREATE VIEW v AS COPY flights TO 'flights.csv';
--               ^^^^ query must be one plain SELECT; got COPY
