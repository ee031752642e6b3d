-- what the benchmark itself published
SELECT replace(replace(File, 'realTweets/Twitter_volume_', ''), '.csv', '') AS series,
       TP AS tp, TN AS tn, FP AS fp, FN AS fn, Total_Count AS total_count
FROM read_csv(getvariable('folder') || '/results/windowedGaussian/windowedGaussian_standard_scores.csv')
WHERE File LIKE 'realTweets/%'
