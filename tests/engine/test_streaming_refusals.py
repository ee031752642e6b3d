"""One writer; a topic that is another one; offsets that are gone: refused by name."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from infra import jars
from schemas.ledger import stops
from schemas.ledger.connect import Ledger
from schemas.ledger.epochs import EpochCommit, commit_epoch, lease_name
from schemas.ledger.instant import microseconds
from schemas.ledger.leases import leases, release, take
from schemas.ledger.process import is_running, this_process
from schemas.ledger.sealing import request_seal
from schemas.ledger.versions import StreamRow, streams, views
from schemas.position import Range
from tests.engine.conftest import Driver, Stack, wait_until

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

PROJECT = """
CREATE STREAM steady (n BIGINT) WITH (topic = '{topic}steady', format = 'json');
CREATE STREAM renewed (n BIGINT) WITH (topic = '{topic}renewed', format = 'json');
CREATE STREAM behind (n BIGINT) WITH (topic = '{topic}behind', format = 'json');
CREATE VIEW steady_total AS SELECT count(*) AS events FROM steady;
"""


def commit_nothing(ledger: Ledger, stream: str, until: int) -> None:
    """An epoch over offsets 0.. of both partitions, as if there had been only markers."""
    now = datetime.now(UTC)
    lease = take(ledger, lease_name(stream), this_process(), now, timedelta(60), is_running)
    version = registered(ledger, stream).version
    folded = tuple(view.version for view in views(ledger, stream))
    ranges = (Range(0, 0, until), Range(1, 0, until))
    commit = EpochCommit(
        stream, 1, now, lease.token, version, None, ranges, (), folded, (), f"uuid-{stream}"
    )
    commit_epoch(ledger, commit)
    release(ledger, lease)


def logs(driver: Driver, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = driver.stream(stream).get("logs") or {}  # type: ignore[assignment]
    return found


def registered(ledger: Ledger, stream: str) -> StreamRow:
    return next(each for each in streams(ledger) if each.name == stream)


def test_refusals_of_a_running_driver(stack: Stack) -> None:
    stack.declare(PROJECT)
    stack.create("steady", "renewed", "behind")
    for name in ("steady", "renewed", "behind"):
        stack.produce(name, [b'{"n": %d}' % n for n in range(100)])
    admin = KafkaAdminClient(bootstrap_servers=stack.servers)
    with stack.ledger() as ledger:
        commit_nothing(ledger, "behind", until=10)
    admin.delete_records({TopicPartition(stack.topic("behind"), 1): 25})
    connector = ("--jars", str(jars.connector_jars()[0].parent))

    driver = stack.start(*connector, "--seal-every", "3600")
    wait_until(lambda: stack.is_held("steady"), "the lease")
    second = stack.start(*connector)
    code, log = second.end()
    assert code == 1
    assert f"held by process {driver.process.pid} on host" in log
    assert second.report() == {}

    wait_until(lambda: driver.stream("renewed").get("epoch") == 1, "an epoch of renewed")
    wait_until(lambda: driver.stream("steady").get("epoch") == 1, "an epoch of steady")
    error = str(driver.stream("behind")["error"])
    assert "offsets 10..24 of partition 1 are gone" in error
    with stack.ledger() as ledger:
        assert "offsets 10..24" in str(registered(ledger, "behind").stopped)
        assert stops.accept_loss(ledger, "behind", datetime.now(UTC)) == (Range(1, 10, 25),)
    wait_until(lambda: driver.stream("behind").get("epoch") == 2, "an epoch after the loss")
    (_, after) = stack.epochs("behind")
    assert after.ranges == (Range(0, 10, 50), Range(1, 10, 50))
    there = [(row["_partition"], row["_offset"]) for row in stack.rows("behind")]
    assert there == [*((0, n) for n in range(10, 50)), *((1, n) for n in range(25, 50))]
    with stack.ledger() as ledger:
        assert registered(ledger, "behind").lost == ((1, 10, 25),)
        assert registered(ledger, "behind").stopped is None

    # where the logs end is told to those who watch, and that they were read to there
    ends = {"0": 50, "1": 50}
    wait_until(lambda: logs(driver, "steady").get("ends") == ends, "the ends of steady")
    assert logs(driver, "steady")["kept_ms"] == 7 * 24 * 3600 * 1000  # as Kafka has it
    (first,) = stack.epochs("steady")
    assert first.observed is not None
    for mark in first.observed.marks.values():
        assert mark.read_to is not None
        assert mark.read_to <= microseconds(first.instant)
    assert set(first.observed.marks) == {0, 1}

    # the topic comes back with more records than were read: Spark alone would read on
    admin.delete_topics([stack.topic("renewed")])
    stack.create("renewed")
    stack.produce("renewed", [b'{"n": 7}'] * 300)
    wait_until(lambda: bool(driver.stream("renewed").get("error")), "the refusal")
    wait_until(lambda: "created again" in str(driver.stream("renewed")["error"]), "its reason")
    assert len(stack.epochs("renewed")) == 1

    # the others go on, with new partitions too
    admin.create_partitions({stack.topic("steady"): 3})
    stack.produce("steady", [b'{"n": 1}'] * 10)
    wait_until(lambda: driver.stream("steady").get("position", {}) != {}, "a position")
    wait_until(lambda: len(stack.rows("steady")) == 110, "the new events of steady")
    wait_until(lambda: "2" in logs(driver, "steady")["ends"], "the end of the new partition")
    admin.close()

    # sealed on request, that of a stream which cannot go on too
    with stack.ledger() as ledger:
        wanted = {name: request_seal(ledger, name) for name in ("steady", "behind")}
    for name, epoch in wanted.items():
        wait_until(lambda n=name, e=epoch: driver.stream(n).get("sealed") == e, "sealing")  # type: ignore[misc]
        assert driver.stream(name)["sealing_error"] is None
        assert stack.epochs(name) == []
    with stack.ledger() as ledger:
        assert "created again" in str(registered(ledger, "renewed").stopped)
    assert len(stack.rows("steady")) == 110

    begun = time.monotonic()
    code, log = driver.stop()
    assert code == 0, log
    assert time.monotonic() - begun < 20
    with stack.ledger() as ledger:
        assert leases(ledger) == []
    assert driver.report()["state"] == "stopped"
