"""F26 to F35: builds, publications, rollbacks, and serving's view of them."""

from __future__ import annotations

from datetime import timedelta
from itertools import chain

from batch import stages
from batch.stages import Job, in_process
from schemas.errors import (
    BuildFailed,
    BuildRefused,
    CutGoesBack,
    LeaseHeld,
    NothingToBuild,
    StaleToken,
)
from schemas.ledger import builds, leases
from schemas.ledger.files import DataFile
from tests.matrix.letters import batch, heals, holds, named, stray
from tests.matrix.micro_batch import OTHER, YEAR
from tests.matrix.registry import played, shown
from tests.matrix.stage import Stage
from tests.matrix.world import World, at, event, loud

FAULTS = "tests/engine/test_batch_faults.py::"
REBUILD = "tests/engine/test_batch_rebuild.py::"
PROOF = "tests/engine/test_batch_proof.py::"
AIRFLOW = "tests/orchestration/test_rebuild.py::"


def sealed(stage: Stage, *, published: bool = True) -> World:
    """A world with sealed epochs, one publication and more after it."""
    world = stage.world()
    world.some(0, 20)
    world.stream()
    world.seal()
    if published:
        world.build("by_key")
    grow(world, 20)
    return world


def grow(world: World, first: int, count: int = 10) -> None:
    """Further events, sealed."""
    world.some(first, count)
    world.stream()
    world.seal()


@played(
    "F26",
    "A build dies at each of its steps, and is tried again.",
    FAULTS + "test_a_killed_build_leaves_the_old_or_the_new_whole",
    AIRFLOW + "test_a_killed_rebuild_is_tried_again",
    YEAR,
)
def a_build_dies(stage: Stage) -> None:
    world = sealed(stage)
    left = False
    for number, moment in enumerate(("after_files", "after_proof", "after_publish")):
        stage.kill(world, f"rebuild.{moment}=kill", "build by_key")
        left = left or bool(stray(world))
        world.serve()
        holds(world, "RVMAF")
        if moment == "after_publish":
            with loud(NothingToBuild):
                world.build("by_key")
            world.builder().publish(number + 2)  # what anything of this layer does at its start
        else:
            batch(world)
    assert left
    batch(world)
    grow(world, 50)
    world.build("by_key")
    heals(world)
    batch(world, anew=True)
    assert not stray(world)


@played(
    "F27",
    "Two builds of one view begin at once.",
    FAULTS + "test_the_second_of_two_builds_names_the_holder",
    AIRFLOW + "test_a_run_beside_another_build_is_skipped",
)
def two_builds(stage: Stage) -> None:
    world = sealed(stage)
    ttl = timedelta(days=1)
    name = builds.build_lease("by_key")
    held = leases.take(world.ledger, name, OTHER, world.clock, ttl, lambda _: True)
    with loud(LeaseHeld, "process 77", "another-host"):
        world.build("by_key")
    holds(world)
    leases.release(world.ledger, held)
    world.build("by_key")
    heals(world)


def twice(job: Job) -> list[DataFile]:
    """A merge to which one piece came twice."""
    pieces = [piece for part in job.parts for piece in stages.fold(job, part)]
    return list(stages.merge(job, chain(pieces, pieces[-1:])))


@played(
    "F28",
    "The proof of a build fails.",
    PROOF + "test_a_build_with_an_altered_partial_is_refused",
    PROOF + "test_altered_finished_rows_are_found",
    AIRFLOW + "test_a_run_publishes_and_a_refused_one_does_not",
)
def a_proof_fails(stage: Stage) -> None:
    world = sealed(stage)
    with loud(BuildRefused, "group (k = 'k", "built", "expected"):
        world.builder(twice).all_steps("by_key", full=False, until=None)
    world.serve()
    holds(world)
    world.build("by_key")
    heals(world)


@played(
    "F29",
    "A build asks to publish after another published a later cut, or would go back behind one.",
    FAULTS + "test_a_rollback_before_publishing_a_parked_build",
    REBUILD + "test_until_is_rounded_down_to_a_sealed_boundary",
)
def a_build_comes_late(stage: Stage) -> None:
    world = sealed(stage)
    late = world.builder(build_idle=timedelta(0))
    made = late.plan("by_key", full=False, until=None)
    late.rebuild(made.id)
    late.prove(made.id)
    grow(world, 50)
    world.build("by_key")
    holds(world)
    with loud(StaleToken):
        late.publish(made.id)
    world.serve()
    holds(world)
    with loud(CutGoesBack):
        world.builder().all_steps("by_key", full=True, until=made.cut)
    world.serve()
    holds(world)
    heals(world)


@played(
    "F30",
    "Files are cleaned up while a build reads them, and while a reader holds an older publication.",
    "tests/engine/test_sealing.py::test_files_that_a_build_may_read_stay",
    REBUILD + "test_what_nobody_needs_is_removed",
    "tests/engine/test_retention.py::test_what_may_be_read_still_stays_on_the_disk",
)
def files_go_under_a_build(stage: Stage) -> None:
    world = stage.world()
    for number in range(4):
        grow(world, 10 * number)

    def cleaned_meanwhile(job: Job) -> list[DataFile]:
        grow(world, 50)
        before = named(world)
        with world.driver(keep_removed=timedelta(0), merge_fanout=2) as driver:
            for _ in range(2):
                world.clock += timedelta(hours=1)
                driver.seal(merge_fanout=2)
        assert named(world) != before
        return in_process(job)

    world.builder(cleaned_meanwhile, lease_ttl=timedelta(days=9)).all_steps(
        "by_key", full=True, until=None
    )
    heals(world)
    # a server that has publication n, while n+1 to n+3 come and go
    for number in range(3):
        grow(world, 100 * (number + 1))
        world.build("by_key", rollback_window=timedelta(0), keep_removed=timedelta(0))
    holds(world)
    heals(world)


@played(
    "F31",
    "A view is rolled back while events flow, and built again.",
    FAULTS + "test_a_rollback_meanwhile_makes_publishing_fail",
)
def a_view_is_rolled_back(stage: Stage) -> None:
    world = sealed(stage)
    world.build("by_key")
    world.some(50)
    world.stream()
    holds(world)
    later = world.look().coverage("by_key")["cut"]
    world.rollback("by_key")
    holds(world)
    assert world.look().coverage("by_key")["cut"] < later
    batch(world)
    world.build("by_key")
    holds(world)
    # while another build is at work
    grow(world, 100)

    def rolled_back_meanwhile(job: Job) -> list[DataFile]:
        world.rollback("by_key")
        return in_process(job)

    with loud(StaleToken):
        world.builder(rolled_back_meanwhile).all_steps("by_key", full=False, until=None)
    holds(world)
    world.build("by_key")
    heals(world)


@played(
    "F32",
    "A task of a build runs twice.",
    REBUILD + "test_a_task_that_ran_twice_leaves_nothing_that_counts",
)
def a_build_task_runs_twice(stage: Stage) -> None:
    world = sealed(stage)

    def again(job: Job) -> list[DataFile]:
        in_process(job)
        return in_process(job)

    def both(job: Job) -> list[DataFile]:
        return in_process(job) + in_process(job)

    with loud(BuildFailed, "twice"):
        world.builder(both).all_steps("by_key", full=False, until=None)
    world.serve()
    holds(world)
    world.builder(again).all_steps("by_key", full=False, until=None)
    batch(world, anew=True)
    heals(world)


shown(
    "F33",
    "Publications several times a second under readers, for minutes.",
    "tests/api/test_processes.py::test_publications_swap_while_clients_ask",
    "tests/api/test_publications.py::test_7_the_merged_form_outlives_equal_publications",
    YEAR,
    reason="minutes of it are a soak test",
)


@played(
    "F34",
    "The scheduler was dead for a day, and then starts all that it missed.",
    "tests/orchestration/test_dags.py::test_there_is_a_dag_for_each_view",
)
def a_storm_of_builds(stage: Stage) -> None:
    world = sealed(stage)
    for number in range(10):
        world.some(100 * number + 50)
        world.stream()
    holds(world)  # speed alone
    world.seal()
    world.build("by_key")
    for _ in range(5):
        with loud(NothingToBuild):
            world.build("by_key")
    heals(world)


@played(
    "F35",
    "Serving is paused or killed between noticing a state and loading it, while others come.",
    "tests/api/test_layers.py::test_queries_during_swaps_see_one_state",
    YEAR,
)
def serving_is_paused(stage: Stage) -> None:
    world = sealed(stage)
    world.serve()
    for number, moment in enumerate(("serve.noticed", "serve.loaded")):
        world.some(1000 * number + 500)
        world.stream()

        def meanwhile(first: int = 1000 * number + 600) -> None:
            grow(world, first)
            world.build("by_key")
            grow(world, first + 100)
            world.build("by_key")

        with at(moment, meanwhile):
            holds(world)
        stage.kill(world, f"{moment}=kill", "serve")
        world.serve()
        holds(world)
    world.send(event(7777))
    heals(world)
