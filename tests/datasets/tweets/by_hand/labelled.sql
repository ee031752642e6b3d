WITH told AS (SELECT regexp_extract(filename, 'volume_(\w+)', 1) AS series, *
              FROM read_csv(getvariable('folder') || '/results/windowedGaussian/realTweets/*.csv', filename = true)),
     windows AS (SELECT regexp_extract(file, 'volume_(\w+)', 1) AS series, json_array_length(w)::BIGINT AS windows
                 FROM (UNPIVOT (FROM read_json(getvariable('folder') || '/labels/combined_windows.json',
                                map_inference_threshold = -1, field_appearance_threshold = 0)) ON * INTO NAME file VALUE w))
SELECT series, sum(label) AS in_windows, 0 AS otherwise, any_value(windows) AS windows,
       last(value ORDER BY timestamp) AS last_value, last(timestamp ORDER BY value, timestamp) AS peak_at
FROM told JOIN windows USING (series) GROUP BY series
