-- A stream is a Kafka topic with typed columns: here one JSON object per order.
-- An event that does not fit goes to the rejects, whole, with column and reason; the stream goes on.
CREATE STREAM orders (
    order_id   INTEGER       NOT NULL,
    ordered_at TIMESTAMP     NOT NULL,
    customer   VARCHAR       NOT NULL,
    product    VARCHAR       NOT NULL,
    quantity   INTEGER       NOT NULL CHECK (quantity BETWEEN 1 AND 100),
    price      DECIMAL(8, 2) NOT NULL,                                -- of one piece
    coupon     VARCHAR,
    amount     DECIMAL(12, 2) GENERATED ALWAYS AS (quantity * price),
    PRIMARY KEY (order_id)                      -- an order that comes twice counts once
) WITH (topic = 'orders', format = 'json', event_time = 'ordered_at');

-- A reference is a small keyed CSV file beside the stream.
CREATE TABLE products (
    product  VARCHAR PRIMARY KEY,
    name     VARCHAR NOT NULL,
    category VARCHAR NOT NULL
) WITH (file = 'products.csv');
