-- A view is a SELECT over one stream. Its answer is right over all orders, and fresh.

-- What each category sold, day by day. Products that products.csv does not know have no category.
CREATE VIEW category_day AS
SELECT ordered_at::DATE                           AS day,
       products.category                          AS category,
       count(*)                                   AS orders,
       count(*) FILTER (WHERE coupon IS NOT NULL) AS with_coupon,
       sum(quantity)                              AS pieces,
       sum(amount)                                AS revenue
FROM orders LEFT JOIN products USING (product)
GROUP BY ALL;

-- How big orders are, who orders, and what.
CREATE VIEW shop_day AS
SELECT ordered_at::DATE                    AS day,
       count(*)                            AS orders,
       avg(amount)                         AS mean_amount,
       approx_quantile(amount, [0.5, 0.9]) AS median_and_large,   -- within 1 %
       approx_count_distinct(customer)     AS customers,
       approx_top_k(product, 2)            AS best_sellers
FROM orders
GROUP BY ALL;
