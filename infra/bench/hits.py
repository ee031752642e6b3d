"""The events of the benchmarks: page views of about 230 bytes, as JSON, and views over them."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

DEFINITIONS = """
CREATE STREAM hits (
    id      BIGINT    NOT NULL,
    at_time TIMESTAMP NOT NULL,
    visitor VARCHAR   NOT NULL,
    page    VARCHAR   NOT NULL,
    country VARCHAR,
    agent   VARCHAR,
    millis  INTEGER   CHECK (millis >= 0),
    bytes   BIGINT
) WITH (topic = 'TOPIC', format = 'json', event_time = 'at_time', partitions = 2);

CREATE VIEW by_country AS
SELECT country, time_bucket(INTERVAL '1 minute', at_time) AS minute,
       count(*) AS hits, count(*) FILTER (WHERE millis > 500) AS slow, avg(millis) AS mean_millis,
       max(millis) AS worst, sum(bytes) AS bytes
FROM hits GROUP BY ALL;

CREATE VIEW by_page AS
SELECT page, count(*) AS hits, avg(millis) AS mean_millis, min(at_time) AS since
FROM hits GROUP BY page;

CREATE VIEW visitors AS
SELECT country, approx_count_distinct(visitor) AS visitors FROM hits GROUP BY country;

CREATE VIEW everything AS SELECT count(*) AS hits, sum(bytes) AS bytes FROM hits;
"""
COUNTRIES = ("NO", "SE", "DK", "FI", "IS", "DE", "FR", "IT", "ES", "PT", "PL", "GR")
PAGES = 500
VISITORS = 50_000


def project(folder: Path, topic: str, *, key: bool = False) -> Path:
    """A project over a topic of this name; with a `key` the event's id is declared as one."""
    folder.mkdir(parents=True)
    text = DEFINITIONS.replace("TOPIC", topic)
    if key:
        text = text.replace("BIGINT    NOT NULL", "BIGINT PRIMARY KEY", 1)
    (folder / "hits.sql").write_text(text, encoding="utf-8")
    return folder


def values(seed: int) -> Iterator[bytes]:
    """Events without end; the same ones for the same seed."""
    chance = random.Random(seed)
    number = seed * 1_000_000_000
    while True:
        number += 1
        second = number // 2000 % 60
        event = {
            "id": number,
            "at_time": f"2026-01-01T10:{number // 120_000 % 60:02d}:{second:02d}Z",
            "visitor": f"visitor-{chance.randrange(VISITORS):08d}",
            "page": f"/shop/category/page-{chance.randrange(PAGES)}",
            "country": COUNTRIES[chance.randrange(len(COUNTRIES))],
            "agent": "Mozilla/5.0 (X11; Linux x86_64)",
            "millis": chance.randrange(900),
            "bytes": chance.randrange(200_000),
        }
        yield json.dumps(event).encode()


def fill(servers: str, topic: str, events: int, processes: int = 2) -> None:
    """Make a topic of two partitions that holds so many events."""
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic, 2, 1)])
    admin.close()
    share = events // processes
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(_send, [(servers, topic, share, seed) for seed in range(processes)])


def _send(servers: str, topic: str, events: int, seed: int) -> None:
    producer = KafkaProducer(
        bootstrap_servers=servers, compression_type="lz4", linger_ms=20, batch_size=131_072
    )
    for at, value in enumerate(values(seed)):
        if at == events:
            break
        producer.send(topic, value, partition=at % 2)
    producer.flush()
    producer.close()
