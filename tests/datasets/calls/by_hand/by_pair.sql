WITH calls AS (FROM read_csv(getvariable('folder') || '/calls.csv')),
     students AS (FROM read_csv(getvariable('folder') || '/genders.csv', names = ['id', 'female'], header = true))
SELECT a.female AS caller_female, b.female AS callee_female, count(*) AS calls,
       sum(CASE WHEN duration > 0 THEN duration ELSE 0 END) AS seconds,
       make_timestamp((epoch(TIMESTAMP '2014-02-02') + min(timestamp))::BIGINT * 1000000) AS first_call,
       make_timestamp((epoch(TIMESTAMP '2014-02-02') + max(timestamp))::BIGINT * 1000000) AS last_call
FROM calls LEFT JOIN students a ON caller = a.id LEFT JOIN students b ON callee = b.id
GROUP BY ALL
