"""F15 to F21: what Kafka does to a stream. The broker is a stand-in; what it shows is how the
streaming driver answers. Tests with a real one are named beside the rows."""

from __future__ import annotations

import threading
from typing import Any

from kafka.errors import KafkaConnectionError

from schemas.ledger import stops
from schemas.ledger.versions import streams
from tests.matrix.letters import batch, heals, holds, named, rejects
from tests.matrix.micro_batch import EXACT, REFUSALS
from tests.matrix.registry import played
from tests.matrix.stage import Stage
from tests.matrix.world import Waits, at, bad, event, says


@played("F15", "Kafka's retention removed offsets that were not read yet.", REFUSALS)
def offsets_are_gone(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    world.stream()
    world.some(20, 20)
    begun = world.position()[0]
    world.topic.delete_before(0, begun + 4)
    before = dict(world.commits)
    for _ in range(2):  # a restart changes nothing
        with world.driver() as driver:
            driver.run()
        gone = f"offsets {begun}..{begun + 3} of partition 0 are gone"
        says(driver.trouble(), gone, "everview accept-loss events")
        assert world.commits == before
        holds(world)
    served = world.serve()
    says(served.degraded("by_key"), "its stream stopped", gone)
    stops.accept_loss(world.ledger, "events", world.tick())
    world.lost.append((0, begun, begun + 4))
    heals(world)
    assert world.look().coverage("by_key")["lost"] == [[0, begun, begun + 4]]
    # and for ever
    world.seal()
    world.build("by_key")
    world.some(60)
    heals(world)
    assert world.look().coverage("by_key")["lost"] == [[0, begun, begun + 4]]


@played("F16", "The topic was deleted and created again.", REFUSALS)
def the_topic_is_another(stage: Stage) -> None:
    for running in (False, True):
        world = stage.world()
        world.some(0, 20)
        world.stream()
        old = world.topic.id
        if running:
            world.some(20)

        def recreate(world: Any = world) -> None:
            world.topic.recreate()
            world.some(100, 60)  # more than were read: Spark alone would read on

        with world.driver() as driver:
            if running:
                with at("task.after_segment", recreate):
                    driver.run()
            else:
                recreate()
                driver.run()
        says(driver.trouble(), f"must have id {old}", "deleted and created again")
        assert len(world.commits) == 1
        world.topic.ends.update(world.position())  # offsets of the topic that counts
        world.topic.records.update({(p, n): None for p in (0, 1) for n in range(99)})  # type: ignore[misc]
        holds(world)


@played(
    "F17", "A topic has more partitions than before, while running and while stopped.", REFUSALS
)
def partitions_are_added(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    world.stream()
    world.seal()
    world.build("by_key")
    for number in range(3):

        def added(number: int = number) -> None:
            partition = world.topic.add_partition()
            for each in range(5):
                world.send(event(1000 * (number + 1) + each), partition=partition)

        world.some(100 * (number + 1))
        if number == 1:
            with at("epoch.before_commit", added):
                world.stream()
        else:
            added()
        heals(world)
    assert set(world.position()) == {0, 1, 2, 3, 4}
    # a batch view of before is what it was
    batch(world)
    world.seal()
    world.build("by_key")
    heals(world)


@played("F18", "Transactions are aborted, many in a row, among committed ones.", EXACT)
def transactions_are_aborted(stage: Stage) -> None:
    world = stage.world()
    for number in range(5):
        world.topic.skip(number % 2, 40)
        world.send(event(number), partition=number % 2)
    world.topic.skip(0, 100)
    world.stream(max_events_per_epoch=50)
    holds(world)
    before = world.position()
    world.topic.skip(1, 30)  # nothing but markers moves the position too
    heals(world)
    assert world.position()[1] == before[1] + 30
    world.seal()
    world.build("by_key")
    heals(world)


@played("F19", "A compacted topic has holes and tombstones.")
def a_topic_is_compacted(stage: Stage) -> None:
    world = stage.world()
    for number in range(20):
        world.send(event(number))
        if number % 3:
            world.topic.skip(0, number)
        world.send(bad(None))
    heals(world)
    world.seal(seal_epochs=1)
    heals(world)
    assert [(row["_reason"], row["_value"]) for row in rejects(world)] == [
        ("null value", None)
    ] * 20


@played(
    "F20",
    "The broker is away, and comes back.",
    "tests/long/test_recovery.py::test_every_process_may_be_killed",
    reason="delays and half-open connections of a real network",
)
def the_broker_is_away(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    world.stream()
    world.some(10)

    def back(times: int) -> None:
        if times == 60:
            world.topic.away = None

    waits = Waits(back)
    with world.driver(stopping=waits, back_off_first=1.0) as driver:
        world.topic.away = KafkaConnectionError("no broker answers")
        driver.run()
    assert driver.trouble() is None
    assert waits.seconds == [1.0] * 60  # it asks once a second, and does not give up
    heals(world)
    # away in the middle of an epoch
    world.some(20)

    def leaves() -> None:
        world.topic.away = KafkaConnectionError("no broker answers")
        threading.Timer(0.2, comes_back).start()

    def comes_back() -> None:
        world.topic.away = None

    with at("task.after_segment", leaves):
        world.stream(back_off_first=0.02)
    heals(world)


@played(
    "F21",
    "A backlog is far larger than an epoch may be.",
    "tests/engine/test_sealing.py::test_neither_files_nor_rows_grow_with_the_number_of_epochs",
    reason="hours of load are left to a soak test",
)
def a_backlog(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 200)
    with world.driver(max_events_per_epoch=10, seal_epochs=4, merge_fanout=2) as driver:
        driver.run()
        before = {0: 0, 1: 0}
        for _, position in (world.commits[each] for each in sorted(world.commits)):
            assert sum(position.values()) - sum(before.values()) <= 10
            before = dict(position)
        assert len(world.commits) >= 20
        holds(world)
        driver.seal(seal_epochs=4, merge_fanout=2)
    heals(world)
    assert len(named(world)) < 40
    (row,) = streams(world.ledger)
    assert row.stopped is None
