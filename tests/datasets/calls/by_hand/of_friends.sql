WITH calls AS (FROM read_csv(getvariable('folder') || '/calls.csv')),
     friends AS (FROM read_csv(getvariable('folder') || '/fb_friends.csv', names = ['a', 'b'], header = true))
SELECT DATE '2014-02-02' + (timestamp // 86400)::INTEGER AS day, count(*) AS calls,
       count(DISTINCT caller) AS callers
FROM calls
WHERE EXISTS (FROM friends WHERE (a, b) IN ((caller, callee), (callee, caller)))
GROUP BY day
