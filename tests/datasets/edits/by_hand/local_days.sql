SELECT (time::TIMESTAMP + INTERVAL 9 HOURS)::DATE AS day_in_tokyo,
       (time::TIMESTAMP - INTERVAL 7 HOURS)::DATE AS day_in_los_angeles,
       if(isRobot, 'robot', if(isAnonymous, 'anonymous', 'known')) AS kind,
       count(*) AS edits, sum(greatest(delta, -delta)) AS moved
FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz')
GROUP BY ALL
