CREATE STREAM s (a VARCHAR, at TIMESTAMP) WITH (
    topic = 'a b',
--          ^^^^^ topic must be 1 to 249 letters
    format = 'jsn',
--           ^^^^^ did you mean 'json'?
    event_time = 'att',
--               ^^^^^ no such column; did you mean 'at'?
    partitions = 0,
--               ^ partitions must be 1 to 1000
    dedup_within = '7 dasy'
--                 ^^^^^^^^ such as '7 days'
);
