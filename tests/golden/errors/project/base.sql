CREATE STREAM flights (
    id VARCHAR PRIMARY KEY,
    ts TIMESTAMP,
    carrier VARCHAR NOT NULL,
    dest VARCHAR,
    dep_delay INTEGER,
    distance DOUBLE,
    fare DECIMAL(12, 2),
    cancelled BOOLEAN,
    details JSON
) WITH (topic = 'flights');

CREATE STREAM weather (station VARCHAR, at TIMESTAMP, wind INTEGER) WITH (topic = 'weather');

CREATE TABLE airports (iata VARCHAR PRIMARY KEY, city VARCHAR) WITH (file = 'airports.csv');
