"""A batch view is what its epochs come to, however it was built: at once, step by step, divided
into tasks and buckets in any way. The oracle is DuckDB over the events, by the view's own text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batch import stages
from batch.compiled import Compiled
from batch.stages import Job, in_process
from schemas import engine
from schemas.errors import (
    BuildFailed,
    BuildNotReady,
    CutGoesBack,
    LeaseHeld,
    NothingSealed,
    NothingToBuild,
    ViewUnknown,
)
from schemas.ledger import builds
from schemas.ledger.files import BATCH, FINISHED, DataFile
from schemas.parquet import described
from tests.api.world import VIEWS
from tests.engine.batching import NOW, Sealed, current, events, finished_files, ordered

SMALL: dict[str, Any] = {"task_bytes": 1, "bucket_bytes": 2_000, "piece_rows": 7}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def partial_rows(world: Sealed, view: str, build: int) -> dict[str, list[tuple[object, ...]]]:
    """Every partial of a batch view, by table."""
    own = engine.connect()
    found = {}
    for table in world.folding.view(view).tables:
        files = builds.build_files(world.ledger, build)
        paths = [world.root.check(each.file) for each in files if each.table == table.name]
        select = stages.partials(table, own.files(paths))
        found[table.name] = ordered(own.con.execute(select).fetchall())
    return found


@pytest.mark.parametrize("view", VIEWS)
def test_incremental_full_and_oracle_agree(world: Sealed, view: str) -> None:
    world.epochs(events(40), [], events(60, start=30))
    first = world.builder(**SMALL).all_steps(view, full=False, until=None)
    world.epochs(events(50, start=70), events(9))
    incremental = world.builder(**SMALL).all_steps(view, full=False, until=None)
    after_incremental = world.finished(view)
    full = world.builder().all_steps(view, full=True, until=None)

    assert [first.build.base_cut, incremental.build.base_cut] == [0, 3]
    assert (first.build.cut, incremental.build.cut, full.build.cut) == (3, 5, 5)
    assert {each.proof.verdict for each in (first, incremental, full)} == {"equal"}
    compared = "visitors" not in view  # these are estimates, within the bound that the proof knows
    assert after_incremental == world.finished(view)
    assert not compared or world.finished(view) == world.expected(view, 5)
    rows = partial_rows(world, view, incremental.build.id)
    assert rows == partial_rows(world, view, full.build.id)
    assert sum(map(len, rows.values())) > 0


def test_a_group_lies_in_one_bucket_and_files_are_sorted(world: Sealed) -> None:
    world.epochs(events(200), events(200, start=100))
    done = world.builder(**SMALL).all_steps("by_two", full=False, until=None)

    files = builds.build_files(world.ledger, done.build.id)
    batch = [each for each in files if each.kind == BATCH]
    own = engine.connect()
    groups = []
    for each in batch:
        source = own.files([world.root.local(each.file.path)])
        rows = own.con.execute(f"SELECT third, k FROM {source}").fetchall()
        assert len(rows) == each.rows
        in_order = f"SELECT third, k FROM {source} ORDER BY third, k"
        assert rows == own.con.execute(in_order).fetchall()
        groups += rows
    assert len(batch) > 1
    assert len(groups) == len(set(groups)) == done.rows
    said = described(world.root.local(batch[0].file.path), batch[0].file.path)
    assert (said.kind, said.view, said.table, said.last) == ("batch", "by_two", "core", 2)
    assert [(each.partition, each.start, each.until) for each in said.ranges] == [(0, 0, 400)]


def test_a_view_of_nothing_has_files_with_its_columns(world: Sealed) -> None:
    world.epochs([], [])
    for view in VIEWS:
        done = world.builder().all_steps(view, full=False, until=None)
        keyed = bool(world.folding.view(view).keys)
        assert done.rows == (0 if keyed else 1)
        assert world.finished(view) == world.expected(view, 2)
        names = [column["name"] for column in current(world.state, view)["columns"]]
        assert names == [name for name, _ in world.folding.view(view).columns]
        tables = {each.table for each in builds.build_files(world.ledger, done.build.id)}
        assert tables == {None, *(table.name for table in world.folding.view(view).tables)}


def test_current_json_tells_all_that_a_reader_needs(world: Sealed) -> None:
    world.epochs(events(30))
    done = world.builder().all_steps("by_two", full=False, until=None)

    told = current(world.state, "by_two")
    assert told["publication"] == done.publication.id
    assert (told["cut"], told["epoch"], told["position"]) == (1, 1, {"0": 30})
    assert told["version"] == world.folding.view("by_two").version
    assert [each["type"] for each in told["columns"]] == [
        "INTEGER",
        "VARCHAR",
        "TIMESTAMP",
        "BIGINT",
    ]
    assert told["rows"] == done.rows == sum(each["rows"] for each in told["files"])
    assert all(Path(path).is_file() for path in finished_files(world.state, "by_two"))


def test_until_is_rounded_down_to_a_sealed_boundary(world: Sealed) -> None:
    world.epochs(events(10), events(10, start=10))
    world.epochs(events(10, start=20), events(10, start=30))
    world.epoch(events(5))

    done = world.builder().all_steps("by_key", full=False, until=3)
    assert done.build.cut == 2
    assert world.finished("by_key") == world.expected("by_key", 2)
    done = world.builder().all_steps("by_key", full=False, until=None)
    assert done.build.cut == 4  # the fifth is not sealed
    with pytest.raises(CutGoesBack):
        world.builder().all_steps("by_key", full=False, until=2)


def test_what_there_is_not_is_refused_by_name(world: Sealed) -> None:
    world.epoch(events(10))
    builder = world.builder()
    with pytest.raises(NothingSealed, match="Streaming seals"):
        builder.all_steps("by_key", full=False, until=None)
    with pytest.raises(ViewUnknown, match="there is: all_visitors, by_key"):
        builder.all_steps("nope", full=False, until=None)
    world.seal_all()
    builder.all_steps("by_key", full=False, until=None)
    with pytest.raises(NothingToBuild, match="nothing to build"):
        builder.all_steps("by_key", full=False, until=None)


def test_every_nth_build_is_a_full_one(world: Sealed) -> None:
    full = []
    for at in range(6):
        world.epochs(events(5, start=at))
        done = world.builder(full_every=3).all_steps("by_key", full=False, until=None)
        full.append(done.build.full)
    # the first one of a version has no base, and so counts as full
    assert full == [False, False, False, True, False, False]


def test_what_nobody_needs_is_removed(world: Sealed) -> None:
    world.epochs(events(20))
    first = world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(20, start=20))
    builder = world.builder(rollback_window=timedelta(0), keep_removed=timedelta(0))
    second = builder.all_steps("by_key", full=False, until=None)
    folder = world.state / "batch" / "by_key" / world.folding.view("by_key").version
    assert {int(each.name) for each in folder.iterdir()} >= {second.build.id}

    world.epochs(events(20, start=40))
    late = world.builder(rollback_window=timedelta(0), keep_removed=timedelta(seconds=-1))
    third = late.all_steps("by_key", full=False, until=None)

    assert not (folder / str(first.build.id)).exists()
    assert not (world.state / "views" / "by_key" / str(first.build.id)).exists()
    assert world.finished("by_key") == world.expected("by_key", 3)
    named = {each.file.path for each in builds.build_files(world.ledger, third.build.id)}
    assert named
    assert all((world.state / path).is_file() for path in named)


def test_leftovers_of_builds_that_are_over_go_and_nothing_else(world: Sealed) -> None:
    world.epochs(events(20))

    def fails(job: Job) -> list[DataFile]:
        in_process(job)
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        world.builder(fails).all_steps("by_key", full=False, until=None)
    left = list(world.state.glob("views/by_key/1/*")) + list(world.state.glob("batch/**/*.parquet"))
    assert len(left) == 2
    assert builds.build(world.ledger, 1).state == "failed"

    done = world.builder().all_steps("by_key", full=False, until=None)
    assert not any(path.exists() for path in left)
    assert not (world.state / "views" / "by_key" / "1").exists()
    assert world.finished("by_key") == world.expected("by_key", 1)
    assert done.build.id == 2


def test_a_task_that_ran_twice_leaves_nothing_that_counts(world: Sealed) -> None:
    world.epochs(events(20))

    def twice(job: Job) -> list[DataFile]:
        in_process(job)
        return in_process(job)

    done = world.builder(twice).all_steps("by_key", full=False, until=None)
    folder = world.state / "views" / "by_key" / str(done.build.id)
    assert len(list(folder.iterdir())) == 2
    assert world.finished("by_key") == world.expected("by_key", 1)

    world.epochs(events(20, start=20))
    world.builder().all_steps("by_key", full=False, until=None)
    (left,) = folder.iterdir()
    assert left.relative_to(world.state).as_posix() in {
        each.file.path for each in builds.build_files(world.ledger, done.build.id)
    }


def test_a_bucket_that_two_tasks_merged_is_refused(world: Sealed) -> None:
    world.epochs(events(20))

    def both(job: Job) -> list[DataFile]:
        return in_process(job) + in_process(job)

    with pytest.raises(BuildFailed, match="bucket 0 of core twice"):
        world.builder(both).all_steps("by_key", full=False, until=None)


def test_a_task_with_another_engine_is_refused(world: Sealed) -> None:
    world.epochs(events(20))

    def elsewhere(job: Job) -> list[DataFile]:
        return in_process(replace(job, probe="[1, 2]"))

    with pytest.raises(BuildFailed, match="DuckDB is not that of the driver"):
        world.builder(elsewhere).all_steps("by_key", full=False, until=None)


def test_parts_are_bounded_and_hold_every_file_once(world: Sealed) -> None:
    for at in range(6):
        world.epochs(events(10, start=at))
    builder = world.builder()
    made = builder.plan("by_key", full=False, until=None)
    inputs = builds.inputs(world.ledger, made.id)
    size = max(each.file.bytes for each in inputs.master)

    parts = stages.plan(inputs.master, (), 2 * size + 1)
    listed = [each for part in parts for each in part.files]
    assert listed == list(inputs.master)
    assert len(parts) in (3, 4)
    assert all(sum(each.file.bytes for each in part.files) <= 2 * size + 1 for part in parts)
    assert len(stages.plan(inputs.master, (), 1)) == len(inputs.master)


def never(job: Job) -> list[DataFile]:
    raise AssertionError(job)


def test_each_step_can_be_a_process_of_its_own(world: Sealed) -> None:
    world.epochs(events(30))
    made = world.builder().plan("by_key", full=False, until=None)
    assert builds.build(world.ledger, made.id).state == "building"
    with pytest.raises(BuildNotReady, match="it is building"):
        world.builder().prove(made.id)
    assert world.builder().rebuild(made.id).state == "built"
    with pytest.raises(BuildNotReady, match="it is built"):
        world.builder().publish(made.id)
    assert world.builder(never).rebuild(made.id).state == "built"  # as a retry would
    assert world.builder().prove(made.id).verdict == "equal"
    published = world.builder().publish(made.id)

    assert published.served
    assert world.finished("by_key") == world.expected("by_key", 1)
    # once more does no harm, and mends what is not there
    (world.state / "views" / "by_key" / "current.json").unlink()
    assert world.builder().publish(made.id) == published
    assert current(world.state, "by_key")["publication"] == made.id
    world.epochs(events(3))
    world.builder().all_steps("by_key", full=False, until=None)


def test_only_finished_and_batch_files_are_named(world: Sealed) -> None:
    world.epochs(events(30))
    done = world.builder().all_steps("visitors", full=False, until=None)
    files = builds.build_files(world.ledger, done.build.id)
    assert {each.kind for each in files} == {BATCH, FINISHED}
    core = next(each for each in files if each.table == "core")
    own = engine.connect()
    rows = own.con.execute(f"DESCRIBE FROM {own.files([world.root.check(core.file)])}").fetchall()
    names = [row[0] for row in rows]
    view = world.folding.view("visitors")
    assert names[-1] == view.finishes[0].column
    assert Compiled(world.ledger).of(view.name, view.version)[1] == view
    assert done.publication.published == NOW


def test_a_repeated_rebuild_leaves_nothing_of_the_try_before(world: Sealed) -> None:
    world.epochs(events(40))
    made = world.builder().plan("by_key", full=False, until=None)

    def torn(job: Job) -> list[DataFile]:
        in_process(job)
        message = "torn off"
        raise ConnectionError(message)

    with pytest.raises(ConnectionError):
        world.builder(torn).rebuild(made.id)
    assert on_disk(world)
    world.builder().rebuild(made.id)

    named = {each.file.path for each in builds.build_files(world.ledger, made.id)}
    assert on_disk(world) == named


def on_disk(world: Sealed) -> set[str]:
    found = [path for top in ("batch", "views") for path in (world.state / top).rglob("*.parquet")]
    return {path.relative_to(world.state).as_posix() for path in found}


def test_a_released_build_makes_way_for_the_next(world: Sealed) -> None:
    world.epochs(events(40))
    made = world.builder().plan("by_key", full=False, until=None)
    with pytest.raises(LeaseHeld, match=f"build {made.id}, between two steps"):
        world.builder().plan("by_key", full=False, until=None)

    assert world.builder().release(made.id).state == "failed"
    assert world.builder().release(made.id).state == "failed"
    with pytest.raises(BuildNotReady):
        world.builder().rebuild(made.id)

    done = world.builder().all_steps("by_key", full=False, until=None)
    assert done.build.id == made.id + 1
    # of a build that came to its end it changes nothing
    assert world.builder().release(done.build.id).state == "published"
    assert world.builder().release(made.id).state == "failed"
    assert world.finished("by_key") == world.expected("by_key", 1)


def test_a_release_of_a_build_that_lost_its_lease_changes_nothing(world: Sealed) -> None:
    world.epochs(events(40))
    lost = world.builder(build_idle=timedelta(0)).plan("by_key", full=False, until=None)
    states = []

    def meanwhile(job: Job) -> list[DataFile]:
        states.append(world.builder().release(lost.id).state)
        return in_process(job)

    done = world.builder(meanwhile).all_steps("by_key", full=False, until=None)

    assert states == ["abandoned"]
    assert done.publication.served
