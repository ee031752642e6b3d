"""F36 to F48: serving's processes, time, definitions and versions, ids, rejects, everything."""

from __future__ import annotations

import shutil
from datetime import timedelta

from schemas.ledger import versions
from schemas.ledger.epochs import epochs_after
from tests.matrix.letters import accounted, answer, batch, heals, holds, rejects, same
from tests.matrix.micro_batch import OTHER
from tests.matrix.registry import outside, played, shown
from tests.matrix.stage import Stage
from tests.matrix.topic import Event
from tests.matrix.world import STREAM, VIEWS, World, at, bad, event, says

PROCESSES = "tests/api/test_processes.py::"
CLIENTS = "tests/api/test_slow_clients.py::"

shown(
    "F36",
    "Serving is killed in the middle of an answer.",
    PROCESSES + "test_a_killed_worker_breaks_its_stream",
    PROCESSES + "test_nothing_outlives_a_killed_front",
)
shown(
    "F37",
    "A query takes all memory, or its process dies.",
    PROCESSES + "test_a_killed_worker_is_replaced_and_only_its_query_fails",
    PROCESSES + "test_a_deadline_takes_the_worker_and_not_the_server",
    "tests/api/test_run.py::test_memory_is_limited",
)
shown(
    "F38",
    "Slow, idle and leaving clients.",
    CLIENTS + "test_two_hundred_clients_that_read_a_byte_a_second",
    CLIENTS + "test_who_waits_idle_gives_way",
    PROCESSES + "test_a_client_that_leaves_ends_its_query",
)


@played("F39", "A clock jumps ahead, goes back, or stands still.")
def a_clock_jumps(stage: Stage) -> None:
    world = stage.world()
    jumps = (timedelta(days=1), timedelta(days=-2), timedelta(0), timedelta(hours=5))
    for number, jump in enumerate(jumps):
        world.some(20 * number, 20)
        world.clock += jump
        world.stream(max_events_per_epoch=15)
        world.some(20 * number)  # duplicates of a moment ago, whatever the clock says
        world.clock += jump
        world.stream()
        world.seal(seal_epochs=1)  # by their number: by their age they wait for the clock
        holds(world)
    world.build("by_key")
    instants = [world.commits[each][0] for each in sorted(world.commits)]
    assert instants == sorted(instants)
    heals(world)
    # a lease that ran out by somebody's clock alone: whoever holds it commits nothing more
    world.some(500)
    with world.driver(holder=OTHER) as sleeper:
        world.clock += timedelta(days=2)
        with world.driver():
            pass
        world.clock -= timedelta(days=3)
        sleeper.run()
        says(sleeper.trouble(), f"under token {sleeper.token} to commit")
    holds(world)
    heals(world)


@played("F40", "The machines are in another time zone.")
def another_time_zone(stage: Stage) -> None:
    world = stage.world()
    hours = {
        "2026-01-01T10:00:00": "2026-01-01T10:00:00",
        "2026-01-01T23:45:00Z": "2026-01-01T23:45:00",
        "2026-01-01T00:30:00+05:30": "2025-12-31T19:00:00",
        "2026-01-01T12:00:00-08:00": "2026-01-01T20:00:00",
    }
    for first, zone in enumerate(("Asia/Kolkata", "America/St_Johns")):
        for number, (written, utc) in enumerate(hours.items(), 10 * first):
            sent = event(number, ts=written)
            world.send(Event(sent.value, {**(sent.meant or {}), "ts": utc}))
        stage.run(world, "stream", zone=zone)
    stage.run(world, "seal", "build by_hour", zone="Asia/Kolkata")
    heals(world)


@played(
    "F41",
    "A view is added or changed while events flow.",
    "tests/api/test_follow.py::test_a_changed_view_takes_the_place_of_the_old_one",
    "tests/api/test_layers.py::test_another_version_takes_over_when_it_is_published",
    "tests/faults/test_versions.py",
)
def a_view_is_changed(stage: Stage) -> None:
    first = {"everything": VIEWS["everything"]}
    world = stage.world(views=first)
    world.some(0, 20)
    world.stream()
    world.some(20, 20)

    def deployed() -> None:
        world.declare(STREAM, VIEWS)

    # between the tasks and the commit: the epoch is planned anew, with the new views in it
    with at("epoch.before_commit", deployed):
        world.stream()
    registered = {view.version for view in versions.views(world.ledger)}
    assert epochs_after(world.ledger, "events", 1, 10)[0].folded == registered
    holds(world)
    waiting = {view: world.look().coverage(view)["epoch"] for view in VIEWS}
    assert waiting == {"everything": 2, "by_key": 0, "by_hour": 0}
    world.seal()
    world.build("by_key")
    world.build("by_hour")
    world.some(100)
    heals(world)
    # another meaning under the same name is a version of its own; the old one serves until then
    changed = {**VIEWS, "everything": "SELECT count(*) AS events FROM events"}
    old = world.look().coverage("everything")["version"]
    world.declare(STREAM, changed)
    world.some(200)
    heals(world)
    assert world.look().coverage("everything")["version"] == old
    world.seal()
    world.build("everything")
    world.some(300)
    world.stream()
    served = world.serve()
    told = served.coverage("everything")
    assert told["version"] != old
    counted = answer(world, "everything", told["epoch"])
    same("everything", served.rows("SELECT events FROM everything"), [counted[0][:1]])


@played(
    "F42",
    "The state is copied while it is written, and opened elsewhere.",
    "tests/engine/test_backup.py::test_a_restored_state_answers_and_goes_on",
    "tests/engine/test_backup.py::test_what_goes_while_it_is_copied_is_taken_from_a_newer_ledger",
)
def a_state_is_copied(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    world.stream()
    world.seal()
    world.build("by_key")
    world.some(20, 20)
    copies: list[str] = []

    def copy() -> None:
        name = f"copy-{len(copies)}"
        shutil.copytree(world.state, stage.folder / name / "state")
        copies.append(name)

    for moment in ("task.after_segment", "epoch.in_commit", "epoch.after_commit"):
        world.some(100 * (len(copies) + 1))
        with at(moment, copy):
            world.stream()
    for name in copies:
        shutil.copytree(world.topic.folder, stage.folder / name / "topic")
        (stage.folder / name / "state" / "run").mkdir(exist_ok=True)
        other = stage.world(name=name)
        other.clock, other.commits = world.clock, {}
        other.commits = {n: c for n, c in world.commits.items() if n <= _last(other)}
        heals(other)
    shutil.rmtree(world.state / "master")  # the copies need nothing of where they come from
    for other in stage.worlds[1:]:
        other.some(900)
        heals(other)


def _last(world: World) -> int:
    served = world.look()
    return max(int(served.coverage(view)["epoch"]) for view in world.views)


@played("F43", "Events change their shape while they flow.")
def events_change_shape(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    world.stream()
    added = event(100)
    shapes = [
        Event(added.value[:-1] + b', "new": {"a": [1]}}', added.meant) if added.value else added,
        event(101, n=None),  # a column is missing
        bad(b'{"id": "e102", "ts": "2026-01-01", "k": "a", "n": "7"}'),  # a number became a string
        bad(b'{"id": "e103", "ts": "2026-01-01", "key": "a"}'),  # renamed
        event(104),
    ]
    for shape in shapes:
        world.send(shape)
        heals(world)
    told = [(row["_reason"], row["_column"]) for row in rejects(world)]
    assert told[-2:] == [("type", "n"), ("missing", "k")]
    accounted(world)


shown(
    "F44",
    "The state was written by an older or by a newer release.",
    "tests/faults/test_ledger.py::test_a_ledger_of_the_first_form_is_brought_to_this_one",
    "tests/faults/test_ledger.py::test_p22_a_newer_ledger_is_refused_by_name_and_untouched",
    reason="one older form of the ledger, not one per release",
)
shown(
    "F45",
    "Partials of another engine or of another definition are put in place.",
    "tests/engine/test_streaming_epochs.py"
    "::test_10_a_view_of_another_release_is_suspended_and_the_stream_goes_on",
    "tests/api/test_handoff.py::test_a_run_of_other_offsets_than_its_name_says_is_damage",
    "tests/engine/test_batch_rebuild.py::test_a_task_with_another_engine_is_refused",
    reason="the engine's hash is part of a version, so partials of another one have another name",
)


@played(
    "F46",
    "One event id comes in two epochs, on either side of the cut and of `dedup_within`.",
    "tests/engine/test_id_file.py",
    "tests/engine/test_streaming_epochs.py::test_ids_are_decided_over_all_epochs_by_any_worker",
)
def an_id_comes_again(stage: Stage) -> None:
    world = stage.world()
    again = [event(number) for number in range(3)]
    world.send(*again, *again)  # in one task
    world.stream()
    with world.driver() as driver:
        for partition in (0, 1):  # in the next epochs, of one worker
            world.send(*again, partition=partition)
            driver.run()
    world.send(*again)  # after a restart
    world.stream()
    world.seal()
    world.send(*again)  # after sealing
    world.stream()
    world.build("by_key")
    world.send(*again, event(7))  # behind the cut
    world.stream()
    heals(world)
    assert sum(len(each) for each in [again]) + 1 == _counted(world)
    world.clock += timedelta(days=7)
    world.send(*again)  # so late that it counts again
    world.stream()
    world.send(*again)
    world.seal()
    world.stream()
    world.seal()
    world.build("by_key", full=True)
    heals(world)
    batch(world, anew=True)
    assert _counted(world) == 7


def _counted(world: World) -> int:
    ((events,),) = world.look().rows("SELECT events FROM everything")
    return int(events)


shown(
    "F47",
    "Replay of rejects or retention is killed half-way, run twice, or races a build.",
    "tests/engine/test_replay.py::test_a_replay_that_is_killed_goes_on_where_it_was",
    "tests/engine/test_replay.py::test_twice_is_once",
    "tests/engine/test_retention.py::test_a_kill_at_any_moment_loses_nothing",
    "tests/engine/test_retention.py::test_a_build_that_began_before_is_not_published",
    reason="there is no erasure",
)
outside("F48", "Rows at random for hours.", "a soak test; each row here leaves its world healed")
