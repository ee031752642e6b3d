SELECT page, user, time::TIMESTAMP AS time, delta
FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz')
WHERE -delta > 450
