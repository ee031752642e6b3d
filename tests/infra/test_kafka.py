"""The real broker, through its part."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from infra import ports, processes
from infra.parts import kafka
from infra.sending import Refused, Sender, ends, last_values, records_in
from infra.supervisor import Notice, Supervisor

WAIT = 60.0


@contextmanager
def broker(state: Path, port: int, controller: int) -> Iterator[str]:
    """A broker that answers while the block runs; afterwards nothing is left of it."""
    state.mkdir(exist_ok=True)
    ready = threading.Event()
    told: list[Notice] = []

    def notice(one: Notice) -> None:
        told.append(one)
        if one.kind == "ready":
            ready.set()

    mark = uuid.uuid4().hex
    part = kafka.part(state, port, controller, "256m")
    supervisor = Supervisor(
        [part],
        stack=mark,
        logs=state / "logs",
        folder=state,
        notice=notice,
        changed=lambda _: None,
    )
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        assert ready.wait(WAIT), told
        yield f"127.0.0.1:{port}"
    finally:
        supervisor.stop()
        thread.join(WAIT)
    assert [one.kind for one in told] == ["ready", "stopping", "stopped"]
    assert processes.marked(mark) == []


def create(
    servers: str, topic: str, configs: dict[str, str] | None = None, partitions: int = 1
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs or {})])
    finally:
        admin.close()


def produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=servers)
    try:
        for value in values:
            producer.send(topic, value)
        producer.flush()
    finally:
        producer.close()


def consume(servers: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=servers, group_id=None)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        return [next(consumer).value for _ in range(count)]
    finally:
        consumer.close()


@pytest.mark.kafka
def test_a_broker_finds_its_data_again_at_other_ports_beside_another(tmp_path: Path) -> None:
    chosen = ports.choose(tmp_path / "ports.json", dict.fromkeys("abcdef", 0))
    values = [b"one", b"two"]
    with ExitStack() as both:
        first = both.enter_context(broker(tmp_path / "é 1", chosen["a"], chosen["b"]))
        second = both.enter_context(broker(tmp_path / "2", chosen["c"], chosen["d"]))
        for servers in (first, second):
            create(servers, "flights")
        produce(first, "flights", values)
        produce(second, "flights", [b"other"])

    with broker(tmp_path / "é 1", chosen["e"], chosen["f"]) as servers:
        produce(servers, "flights", [b"three"])
        found = consume(servers, "flights", 3)

    assert found == [*values, b"three"]


@pytest.mark.kafka
def test_a_refused_record_does_not_take_others_with_it(tmp_path: Path) -> None:
    chosen = ports.choose(tmp_path / "ports.json", {"kafka": 0, "controller": 0})
    refused: list[Refused] = []
    with broker(tmp_path / "state", chosen["kafka"], chosen["controller"]) as servers:
        create(servers, "small", {"max.message.bytes": "20000"})
        with Sender(servers, "small", refused.append) as sender:
            for number in range(300):
                big = number in (100, 101, 250)
                sender.send(f"line {number}", random.randbytes(30000 if big else 10))
            sender.send("line 300", bytes(2_000_000))
            sender.finish()
        found = records_in(servers, "small", 1.0)

    assert sorted(record.place for record in refused) == [
        "line 100",
        "line 101",
        "line 250",
        "line 300",
    ]
    assert sender.acknowledged == found == 297
    assert sender.refused == 4


@pytest.mark.kafka
def test_a_partition_has_what_was_sent_to_it_in_order_and_tells_its_end(tmp_path: Path) -> None:
    chosen = ports.choose(tmp_path / "ports.json", {"kafka": 0, "controller": 0})
    with broker(tmp_path / "state", chosen["kafka"], chosen["controller"]) as servers:
        create(servers, "three", partitions=3)
        with Sender(servers, "three", lambda _: None) as sender:
            for number in range(2001):
                sender.send(f"line {number}", b"%d" % number, number % 2)
            sender.finish()
        known = ends(servers, "three", 1.0)
        last = last_values(servers, "three", 10.0)
        found = consume(servers, "three", 1001)

    assert known == {0: 1001, 1: 1000, 2: 0}
    assert last == {(0, 1000): b"2000", (1, 999): b"1999"}
    assert found == [b"%d" % number for number in range(0, 2001, 2)]


def test_nobody_answers_at_a_free_port(tmp_path: Path) -> None:
    port = ports.choose(tmp_path / "ports.json", {"kafka": 0})["kafka"]

    assert not kafka.answers("127.0.0.1", port, 0.5)


def test_a_chosen_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    file = tmp_path / "run" / "ports.json"
    first = ports.choose(file, {"kafka": 0, "controller": 0})

    again = ports.choose(file, {"kafka": 0, "controller": 0})

    assert again == first
    assert len(set(first.values())) == 2
