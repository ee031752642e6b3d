"""F1 to F14: the micro-batch and the ledger."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from schemas import storage
from schemas.errors import LeaseHeld, LedgerMissing, SealingFailed, StaleToken
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.leases import Holder
from schemas.position import Range
from streaming import source
from streaming.orphans import remove_orphans
from tests.matrix.letters import heals, holds, named, query, stray
from tests.matrix.registry import played
from tests.matrix.stage import Stage
from tests.matrix.world import Waits, World, at, event, loud, raises, says

KILLS = "tests/engine/test_streaming_kills.py::test_kills_of_drivers_tasks_and_sealing"
REFUSALS = "tests/engine/test_streaming_refusals.py::test_refusals_of_a_running_driver"
YEAR = "tests/end_to_end/test_flights.py::test_every_poll_is_right_while_all_is_rebuilt_and_killed"
EXACT = "tests/engine/test_streaming_exact.py::test_a_known_sequence_is_counted_exactly"
OTHER = Holder("another-host", 77, 0.0)


@played("F1", "A Spark task dies before or after it wrote its segment.", KILLS)
def a_task_dies(stage: Stage) -> None:
    world = stage.world(partitions=3)
    world.some(0)
    with at("task.before_segment", raises(ConnectionError())):
        world.stream()
    holds(world, "RVMAF")
    assert not stray(world)
    world.some(10)
    with at("task.after_segment", raises(ConnectionError())):
        world.stream()
    holds(world, "RVMAF")
    (orphan,) = stray(world)
    # what may be on its way into the ledger stays, what an older driver left goes
    world.some(20)
    with (
        world.driver() as driver,
        at(
            "task.after_segment",
            lambda: remove_orphans(world.root, world.ledger, "events", driver.token),
        ),
    ):
        assert orphan not in stray(world)
        driver.run()
    assert driver.trouble() is None
    heals(world)
    assert not stray(world)


@played("F2", "The driver dies with all segments written and none committed.", KILLS)
def a_driver_dies_before_its_commit(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    stage.kill(world, "epoch.before_commit=kill@2", "stream 8")
    holds(world)
    assert len(world.commits) == 1
    assert stray(world)
    heals(world)
    assert not stray(world)
    # the same events again, in a worker that has folded them once
    world.some(100)
    with at("epoch.before_commit", raises(RuntimeError())):
        world.stream()
    holds(world)
    assert _duplicates(world) == 0


def _duplicates(world: World) -> int:
    return int(query(world, "SELECT coalesce(sum(duplicates), 0) FROM epochs")[0][0])


@played("F3", "The driver dies inside the ledger's transaction, and right after it.", KILLS)
def a_driver_dies_in_and_after_its_commit(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    stage.kill(world, "epoch.in_commit=kill@2", "stream 8")
    holds(world)
    assert len(world.commits) == 1
    stage.kill(world, "epoch.after_commit=kill", "stream 8")
    holds(world)
    assert len(world.commits) == 2
    for file in (world.state / "spark").rglob("commits/*"):
        file.unlink()
    heals(world)
    assert _duplicates(world) == 0


@played("F4", "The micro-batch raises once, and then ten times in a row.")
def a_micro_batch_raises(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    with at("epoch.before_commit", raises(RuntimeError("on purpose"))):
        world.stream()
    holds(world)
    world.some(10)
    left = 10

    def ten_times() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            message = "on purpose"
            raise RuntimeError(message)

    waits = Waits()
    slow: dict[str, Any] = {"back_off_first": 1.0, "back_off_most": 30.0, "once_attempts": 20}
    with (
        world.driver(stopping=waits, **slow) as driver,
        at("epoch.before_commit", ten_times, hit=None),
    ):
        driver.run()
    assert driver.trouble() is None
    assert waits.seconds == [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    heals(world)


@played(
    "F5",
    "The driver is asked to stop in the middle of an epoch.",
    REFUSALS,
    "tests/infra/test_supervisor.py",
    "tests/long/test_recovery.py::test_every_process_may_be_killed",
)
def a_driver_is_asked_to_stop(stage: Stage) -> None:
    world = stage.world()
    for number, moment in enumerate(("task.after_segment", "epoch.before_commit")):
        world.some(20 * number, 20)
        with world.driver(max_events_per_epoch=5) as driver:
            with at(moment, driver.stopping.set, hit=2):
                driver.run()
            assert driver.fatal == []
        # the epoch at work was committed, none was begun after it
        holds(world)
        assert world.position() != world.topic.ends
        assert not stray(world)
        heals(world)


@played("F6", "Power is lost: what was not fsynced is gone, and Spark's checkpoint wholly.")
def power_is_lost(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 20)
    shim = Disk(stage, world)
    world.stream(max_events_per_epoch=8)
    world.seal(seal_epochs=2)
    world.build("by_key")
    shim.lose_power()
    shutil.rmtree(world.state / "spark")
    holds(world)
    world.some(20)
    heals(world)


class Disk:
    """Knows which files and names were made durable; what was not is gone when power is lost."""

    def __init__(self, stage: Stage, world: World) -> None:
        self.world = world
        self.contents: set[int] = set()  # inodes
        self.names: dict[Path, set[str]] = {}
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            self.note(descriptor)

        stage.patch.setattr("schemas.storage.os.fsync", noted)

    def note(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self.names[path] = {each.name for each in path.iterdir()}
        else:
            self.contents.add(os.fstat(descriptor).st_ino)

    def lose_power(self) -> None:
        for top in ("segments", "master", "rejects", "ids", "runs", "batch", "views"):
            for file in sorted((self.world.state / top).rglob("*")):
                if not file.is_file():
                    continue
                if file.name not in self.names.get(file.parent, set()):
                    file.unlink()
                elif file.stat().st_ino not in self.contents:
                    file.write_bytes(b"")


@played("F7", "Spark's checkpoint is empty, cut, garbage or gone.", EXACT)
def the_checkpoint_is_damaged(stage: Stage) -> None:
    world = stage.world()

    def emptied(file: Path) -> None:
        file.write_bytes(b"")

    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:5])

    def garbage(file: Path) -> None:
        file.write_bytes(b"\xff" * 100)
        (file.parent / f".{file.name}.tmp").write_bytes(b"stray")

    def none(_file: Path) -> None:
        pass

    damages: list[Callable[[Path], None]] = [none, emptied, cut, garbage, Path.unlink]
    for number, damage in enumerate(damages):
        world.some(20 * number, 20)
        # the plan of an epoch that is never committed is the last that Spark wrote
        with (
            world.driver(max_events_per_epoch=8, once_attempts=1) as driver,
            at("epoch.before_commit", raises(RuntimeError()), hit=2),
        ):
            driver.run()
        plans = sorted((world.state / "spark").rglob("offsets/*"))
        assert plans
        damage(plans[-1])
        heals(world)
    shutil.rmtree(world.state / "spark")
    world.some(100)
    heals(world)


@played("F8", "Spark plans a micro-batch of the same number with other rows, or reads others.")
def spark_plans_other_rows(stage: Stage) -> None:
    world = stage.world()
    world.some(0, 8)
    with (
        world.driver(once_attempts=1) as driver,
        at("epoch.before_commit", raises(RuntimeError())),
    ):
        driver.run()
    world.some(8)
    heals(world)
    # records that were not planned
    world.some(20)
    with world.driver(max_events_per_epoch=3, once_attempts=1) as driver:
        driver.session.beyond = 2
        driver.run()
    says(driver.trouble(), "must have offsets in", "The epoch is left")
    holds(world)
    # a writer that takes it to begin behind where the ledger stands
    with world.driver(once_attempts=1) as driver:
        ranges = source.ranges

        def later(begun: Mapping[int, int], ends: Mapping[int, int]) -> tuple[Range, ...]:
            return ranges({partition: ends[partition] - 1 for partition in begun}, ends)

        with stage.patch.context() as patch:
            patch.setattr(source, "ranges", later)
            world.send(event(1000), event(1001))
            driver.run()
    says(driver.trouble(), "must have offsets in")
    holds(world)
    heals(world)


@played("F9", "Two streaming drivers on one state.", REFUSALS)
def two_drivers(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    with world.driver(holder=OTHER) as first:
        with loud(LeaseHeld, "process 77", "host 'another-host'", f"token {first.token}"):
            world.driver()
        first.run()
    assert first.trouble() is None
    heals(world)


@played("F10", "A driver sleeps before its commit, a successor takes over, the old one wakes.")
def a_driver_sleeps_and_wakes(stage: Stage) -> None:
    world = stage.world()
    for number, epochs in enumerate((0, 5)):
        world.some(20 * number, 20)

        def taken_over(epochs: int = epochs) -> None:
            world.clock += timedelta(days=2)
            with world.driver() as successor:
                for _ in range(epochs):
                    successor.run()
                    world.send(event(1000 + len(world.commits)))

        with world.driver(holder=OTHER, max_events_per_epoch=12) as sleeper:
            with at("epoch.before_commit", taken_over):
                sleeper.run()
            assert sleeper.fatal, "the old token committed"
            says(sleeper.trouble(), f"under token {sleeper.token} to commit")
        holds(world)
        heals(world)
        assert not stray(world)
    # sealing goes by the same token
    world.some(100)
    world.stream()
    before = named(world)
    with world.driver(holder=OTHER) as sleeper:
        world.clock += timedelta(days=2)
        with world.driver():
            pass
        with loud(StaleToken, f"under token {sleeper.token}"):
            sleeper.seal()
    assert named(world) == before
    holds(world)


@played(
    "F11",
    "The disk is full while a segment, a sealed file or the ledger is written.",
    "tests/faults/test_ledger.py::test_f11_a_full_disk_is_loud_and_leaves_nothing_half_done",
    "tests/engine/test_sealing.py::test_a_full_disk_leaves_nothing_behind",
)
def the_disk_is_full(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    full = errno.ENOSPC, os.strerror(errno.ENOSPC)

    def half(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(*full)

    with stage.patch.context() as patch:
        patch.setattr(storage, "_write_new", half)
        with world.driver() as driver:
            driver.run()
    says(driver.trouble(), "No space left on device")
    assert not stray(world)
    holds(world)
    heals(world)
    write = storage.DataRoot.write

    def half_of_sealing(root: Any, folder: str, name: str, writer: Any) -> Any:
        if folder.startswith("segments"):
            return write(root, folder, name, writer)
        return write(root, folder, name, lambda path: half(path, b"PAR1PAR1"))

    with stage.patch.context() as patch, world.driver() as driver:
        patch.setattr(storage.DataRoot, "write", half_of_sealing)
        with loud(SealingFailed, "No space left"):
            driver.seal()
    assert not stray(world)
    holds(world)
    world.seal()
    heals(world)


@played(
    "F12",
    "fsync of a segment or of its folder fails once.",
    "tests/faults/test_storage.py::test_5a_a_failed_fsync_is_not_a_written_file",
)
def an_fsync_fails_once(stage: Stage) -> None:
    world = stage.world()
    for kind in (Path.is_file, Path.is_dir):
        world.some(20 * len(world.commits))
        failed: list[Path] = []
        with stage.patch.context() as patch:
            patch.setattr("schemas.storage.os.fsync", _failing_once(kind, failed))
            world.stream()
        assert len(failed) == 1
        names = {path.rpartition("/")[2] for path, *_ in named(world)}
        assert storage.unfinished(failed[0].name) not in names
        # the folder's own: the file is there, and counts as not written
        assert len(stray(world)) == (kind is Path.is_dir)
        holds(world)
    heals(world)


def _failing_once(kind: Callable[[Path], bool], failed: list[Path]) -> Callable[[int], None]:
    fsync = os.fsync

    def fails(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not failed and "segments/" in str(path) and kind(path):
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    return fails


@played(
    "F13",
    "Another process keeps the ledger's write lock.",
    "tests/faults/test_ledger.py::test_f13_a_busy_ledger_is_waited_for_and_then_loud",
    reason="a ledger in PostgreSQL does not exist yet",
)
def the_ledger_is_busy(stage: Stage) -> None:
    world = stage.world()
    world.some(0)
    world.ledger.close()
    world.ledger.close()
    world.ledger = Ledger(world.state / "ledger.db", busy=0.1)
    lock = sqlite3.connect(world.state / "ledger.db", isolation_level=None)
    try:
        with world.driver(once_attempts=1) as driver:
            with at("epoch.before_commit", lambda: lock.execute("BEGIN IMMEDIATE")):
                driver.run()
            lock.execute("ROLLBACK")
        says(driver.trouble(), "must be free for writing within 0.1 s", "Nothing was changed")
        holds(world)
        heals(world)
    finally:
        lock.close()


@played(
    "F14",
    "The state is missing, or what should be its folder is none.",
    "tests/faults/test_ledger.py::test_a_ledger_is_made_only_on_request",
    "tests/api/test_run.py::test_a_taken_port",
    "tests/infra/test_stack.py",
)
def the_state_is_missing(stage: Stage) -> None:
    nowhere = stage.folder / "nowhere"
    with loud(LedgerMissing, "nowhere", "everview deploy"):
        open_ledger(nowhere).close()
    assert not nowhere.exists()
    world = stage.world()
    world.some(0)
    (world.state / "segments").write_bytes(b"not a folder")
    with world.driver() as driver:
        driver.run()
    says(driver.trouble(), "Not a directory", "segments")
    holds(world)
    (world.state / "segments").unlink()
    heals(world)
