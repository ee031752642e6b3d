-- Small keyed tables beside the stream. prepare.py puts their files into data/.
CREATE TABLE airlines (
    carrier VARCHAR PRIMARY KEY,
    name    VARCHAR NOT NULL
) WITH (file = 'data/airlines.csv');

CREATE TABLE airports (
    faa  VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    lat  DOUBLE,
    lon  DOUBLE
) WITH (file = 'data/airports.csv', null = 'NA');

CREATE TABLE planes (
    tailnum      VARCHAR PRIMARY KEY,
    year         INTEGER,
    manufacturer VARCHAR,
    model        VARCHAR,
    seats        INTEGER
) WITH (file = 'data/planes.csv', null = 'NA');

CREATE TABLE weather (
    origin     VARCHAR,
    time_hour  TIMESTAMP,
    temp       DECIMAL(8, 2),
    wind_speed DOUBLE,
    precip     DOUBLE,
    visib      DOUBLE,
    PRIMARY KEY (origin, time_hour)
) WITH (file = 'data/weather.csv', null = 'NA');
