"""A known sequence through a real broker and real Spark is counted exactly, once."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from kafka import KafkaProducer

from infra import jars
from tests.engine import submitting
from tests.engine.conftest import Stack

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

PROJECT = """
CREATE STREAM numbers (n BIGINT NOT NULL CHECK (n > 0))
WITH (topic = '{topic}numbers', format = 'json');
CREATE STREAM orders (id VARCHAR PRIMARY KEY, price BIGINT)
WITH (topic = '{topic}orders', format = 'json');
CREATE STREAM quiet (n BIGINT) WITH (topic = '{topic}quiet', format = 'json', partitions = 3);
CREATE VIEW total AS SELECT count(*) AS events, sum(n) AS total FROM numbers;
CREATE VIEW orders_total AS SELECT count(*) AS events FROM orders;
"""
BAD = [b"no json", b'{"n": "x"}', b'{"n": 0}', b"{}", None]


def number(value: int) -> bytes:
    return b'{"n": %d}' % value


def order(value: int) -> bytes:
    return b'{"id": "o%d", "price": %d}' % (value, value)


def transactions(stack: Stack, name: str, *, rounds: int) -> None:
    """Aborted and committed transactions in turn; committed ones hold one number each."""
    producer = KafkaProducer(bootstrap_servers=stack.servers, transactional_id=stack.topic(name))
    producer.init_transactions()
    for each in range(rounds):
        producer.begin_transaction()
        producer.send(stack.topic(name), number(1_000_000 + each), partition=each % 2)
        producer.flush()
        producer.abort_transaction()
        producer.begin_transaction()
        producer.send(stack.topic(name), number(2_000 + each), partition=each % 2)
        producer.commit_transaction()
    producer.close()


def spark_submit(stack: Stack) -> tuple[int, str]:
    """The same driver, nothing of it on the path but the zip."""
    command = [submitting.COMMAND, "--master", "local[2,4]", "--driver-memory", "512m"]
    command += ["--jars", ",".join(map(str, jars.connector_jars()))]
    command += ["--py-files", str(submitting.everview_zip(stack.state.parent, "streaming"))]
    command += [submitting.MAIN, "streaming.run"]
    own = submitting.environment()
    return stack.start("--once", launcher=tuple(command), environment=own).end()


def test_a_known_sequence_is_counted_exactly(stack: Stack) -> None:
    stack.declare(PROJECT)
    stack.create("numbers", "orders")
    sent = stack.produce("numbers", [number(n) for n in range(1, 1001)])
    bad = stack.produce("numbers", BAD)
    transactions(stack, "numbers", rounds=5)
    stack.produce("orders", [order(n) for n in range(300)])
    stack.produce("orders", [order(n) for n in range(300)])

    code, log = stack.run("--create-topics", "--max-events-per-epoch", "400")
    assert code == 0, log

    rows = stack.rows("numbers")
    assert Counter(row["n"] for row in rows) == Counter([*range(1, 1001), *range(2000, 2005)])
    places = {(row["_partition"], row["_offset"]) for row in rows}
    assert places >= set(sent)
    assert places.isdisjoint(bad)
    rejects = stack.rejects("numbers")
    assert sorted((row["_partition"], row["_offset"]) for row in rejects) == sorted(bad)
    assert all(row["_reason"] for row in rejects)
    assert not any(row["_duplicate"] for row in rows)

    epochs = stack.epochs("numbers")
    assert [each.epoch for each in epochs] == list(range(1, len(epochs) + 1))
    assert len(epochs) > 1
    position: dict[int, int] = {}
    for epoch in epochs:
        assert sum(each.size for each in epoch.ranges) <= 400
        for each in epoch.ranges:
            assert each.start == position.get(each.partition, 0)
            position[each.partition] = each.until
    assert epochs[-1].position.json() == {str(p): until for p, until in sorted(position.items())}

    # ids are decided over all epochs: the second half repeats the first
    orders = stack.rows("orders")
    assert [row["_duplicate"] for row in orders].count(False) == 300
    assert len(orders) == 600
    assert len(stack.epochs("orders")) > 1
    assert stack.epochs("quiet") == []

    # the same again, without a checkpoint, through spark-submit: only what is new is read
    shutil.rmtree(stack.state / "spark")
    stack.produce("numbers", [number(n) for n in range(3000, 3100)])
    stack.produce("orders", [order(n) for n in range(290, 310)])
    code, log = spark_submit(stack)
    assert code == 0, log

    wanted = Counter([*range(1, 1001), *range(2000, 2005), *range(3000, 3100)])
    assert Counter(row["n"] for row in stack.rows("numbers")) == wanted
    counted = [str(row["id"]) for row in stack.rows("orders") if not row["_duplicate"]]
    assert sorted(counted) == sorted(f"o{n}" for n in range(310))
    (total,) = stack.answer("numbers", "total")
    assert total["events"] == wanted.total()
    assert total["total"] == sum(wanted.elements())
    assert stack.answer("orders", "orders_total") == [{"events": 310}]
