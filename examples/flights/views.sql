-- How each airline does, hour by hour.
CREATE VIEW carrier_hour WITH (rebuild = '@hourly') AS
SELECT carrier,
       airlines.name                                             AS airline,
       time_bucket(INTERVAL '1 hour', time_hour)                 AS hour,
       count(*)                                                  AS flights,
       count(*) FILTER (WHERE dep_delay > 15)                    AS late,
       100.0 * count(*) FILTER (WHERE dep_delay > 15) / count(*) AS late_pct,
       avg(dep_delay)                                            AS mean_delay,
       max(dep_delay)                                            AS worst_delay
FROM flights LEFT JOIN airlines USING (carrier)
GROUP BY ALL;

-- The same by New York's days, with what is too wide for every hour: how late one flight in ten is
-- at least, how many planes flew, where they went most.
CREATE VIEW carrier_day WITH (rebuild = '@hourly') AS
SELECT carrier,
       airlines.name                                             AS airline,
       local_day                                                 AS day,
       count(*)                                                  AS flights,
       count(*) FILTER (WHERE cancelled)                         AS cancelled,
       count(*) FILTER (WHERE dep_delay > 15)                    AS late,
       100.0 * count(*) FILTER (WHERE dep_delay > 15) / count(*) AS late_pct,
       avg(dep_delay)                                            AS mean_delay,
       approx_quantile(dep_delay, 0.9)                           AS p90_delay,
       avg(arr_delay - dep_delay)                                AS lost_in_the_air,
       approx_count_distinct(tailnum)                            AS planes,
       approx_top_k(dest, 3)                                     AS top_destinations
FROM flights LEFT JOIN airlines USING (carrier)
GROUP BY ALL;

-- What the weather at departure does to the delay. Hours without a report count as 'unknown'; there
-- are reports of 2013, so in the demo's later years every flight does.
CREATE VIEW origin_weather WITH (rebuild = '@daily') AS
SELECT flights.origin,
       CASE WHEN weather.precip IS NULL THEN 'unknown'
            WHEN weather.visib < 3      THEN 'fog'
            WHEN weather.precip > 0     THEN 'rain or snow'
            ELSE 'dry' END                                             AS sky,
       count(*)                                                        AS flights,
       count(*) FILTER (WHERE flights.cancelled)                       AS cancelled,
       round(avg(flights.dep_delay), 1)                                AS mean_delay,
       min(weather.temp)                                               AS coldest,
       max(weather.temp)                                               AS warmest
FROM flights LEFT JOIN weather
     ON flights.origin = weather.origin AND flights.time_hour = weather.time_hour
GROUP BY 1, 2;

-- Where people go. Seats come from the planes that are known.
CREATE VIEW dest_totals WITH (rebuild = '@daily') AS
SELECT flights.dest,
       airports.name                          AS airport,
       count(*)                               AS flights,
       sum(planes.seats)                      AS seats,
       count(planes.seats)                    AS flights_with_seats,
       sum(flights.distance)                  AS miles,
       min(flights.air_time)                  AS fastest,
       max(flights.arr_delay)                 AS worst_arrival
FROM flights
     LEFT JOIN airports ON flights.dest = airports.faa
     LEFT JOIN planes ON flights.tailnum = planes.tailnum
WHERE NOT flights.cancelled
GROUP BY ALL;

-- One row for everything.
CREATE VIEW everything AS
SELECT count(*)                                    AS flights,
       count(dep_time)                             AS departed,
       count(*) - count(dep_time)                  AS cancelled,
       sum(distance)                               AS miles,
       avg(dep_delay)                              AS mean_delay,
       approx_count_distinct(tailnum)              AS planes,
       min(time_hour)                              AS first_hour,
       max(time_hour)                              AS last_hour
FROM flights;
