CREATE VIEW namespaces AS
SELECT namespace,
       count(DISTINCT user)                      AS users,
       quantile_cont(delta, [0.1, 0.5, 0.9])     AS deltas,
       quantile_disc(added, 0.99)                AS large,
       var_pop(delta)                            AS variance,
       bool_and(isAnonymous)                     AS all_anonymous,
       bool_or(isRobot)                          AS any_robot,
       bit_or(added)                             AS bits,
       min_by(page, time)                        AS first_page,
       max_by(user, added)                       AS most_by
FROM edits
GROUP BY namespace;

CREATE VIEW losses AS
SELECT page, user, time, delta FROM edits WHERE delta < -450;
