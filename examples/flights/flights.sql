-- The departures from New York's airports, one CSV line per flight, in the order of the file.
-- `month`, `day` and `hour` are New York's; `time_hour` is the same hour in UTC.
CREATE STREAM flights (
    year            INTEGER   NOT NULL,
    month           INTEGER   NOT NULL CHECK (month BETWEEN 1 AND 12),
    day             INTEGER   NOT NULL CHECK (day BETWEEN 1 AND 31),
    dep_time        INTEGER,                    -- hhmm, NULL if the flight was cancelled
    sched_dep_time  INTEGER   NOT NULL,
    dep_delay       INTEGER   CHECK (dep_delay > -1440),
    arr_time        INTEGER,
    sched_arr_time  INTEGER   NOT NULL,
    arr_delay       INTEGER,
    carrier         VARCHAR   NOT NULL,
    flight          INTEGER   NOT NULL,
    tailnum         VARCHAR,
    origin          VARCHAR   NOT NULL,
    dest            VARCHAR   NOT NULL,
    air_time        INTEGER,
    distance        INTEGER   NOT NULL CHECK (distance > 0),
    hour            INTEGER   NOT NULL,
    minute          INTEGER   NOT NULL,
    time_hour       TIMESTAMP NOT NULL,
    cancelled       BOOLEAN   GENERATED ALWAYS AS (dep_time IS NULL),
    local_day       DATE      GENERATED ALWAYS AS (make_date(year, month, day)),
    PRIMARY KEY (time_hour, carrier, flight)    -- a flight that comes twice counts once
) WITH (topic = 'flights', format = 'csv', null = 'NA', event_time = 'time_hour');
