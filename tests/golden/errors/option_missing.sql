CREATE STREAM s (a VARCHAR);
--            ^ must name the Kafka topic; got none
CREATE TABLE t (a VARCHAR);
--           ^ must name
--           ^ must have a PRIMARY KEY
