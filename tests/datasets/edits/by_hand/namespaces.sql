WITH edits AS MATERIALIZED (
         SELECT namespace, user, page, time, added, delta::BIGINT AS delta, isAnonymous, isRobot
         FROM read_json(getvariable('folder') || '/wikiticker-2015-09-12-sampled.json.gz')),
     means AS (SELECT namespace, avg(delta) AS mean FROM edits GROUP BY namespace),
     users AS (SELECT namespace, count(*) AS users FROM (SELECT DISTINCT namespace, user FROM edits) GROUP BY namespace)
SELECT namespace, any_value(users) AS users, quantile_cont(delta, [0.1, 0.5, 0.9]) AS deltas,
       quantile_disc(added, 0.99) AS large, avg((delta - mean) ** 2) AS variance,
       count(*) = sum(isAnonymous::INT) AS all_anonymous, sum(isRobot::INT) > 0 AS any_robot,
       bit_or(added) AS bits, first(page ORDER BY time, page) AS first_page,
       last(user ORDER BY added, user) AS most_by
FROM edits JOIN means USING (namespace) JOIN users USING (namespace)
GROUP BY namespace
