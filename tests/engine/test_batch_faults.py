"""Whatever ends a build, a reader has the old publication or the new one, whole (invariant 12),
and one writer publishes (invariant 3)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from batch import publish, run
from batch.stages import Job, in_process
from schemas.errors import NothingToBuild, StaleToken
from schemas.ledger import builds, leases, versions
from schemas.ledger.connect import open_ledger
from schemas.ledger.files import DataFile
from tests.engine.batching import NOW, Sealed, builder, current, events
from tests.engine.conftest import ROOT

pytestmark = pytest.mark.slow  # processes of their own

MOMENTS = ("before_files", "after_files", "after_proof", "after_publish")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def in_a_process(world: Sealed, *arguments: str, failpoints: str) -> int:
    """A build in a process of its own; its exit code, negative for a signal."""
    command = [sys.executable, "-P", "-m", "tests.engine.batching", str(world.state), *arguments]
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    own |= {"EVERVIEW_FAILPOINTS": failpoints, "EVERVIEW_TEST": "1"}
    found = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    return found.returncode


def served(world: Sealed, view: str) -> int | None:
    return {row.name: row.publication for row in versions.views(world.ledger)}[view]


def whole(world: Sealed, view: str) -> int:
    """Checks that `current.json` names files that are there, as they were; gives its cut."""
    told = current(world.state, view)
    folder = world.state / "views" / view
    for each in told["files"]:
        data = (folder / each["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
    cut = int(told["cut"])
    assert world.finished(view) == world.expected(view, cut)
    return cut


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_build_leaves_the_old_or_the_new_whole(world: Sealed, moment: str) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))

    code = in_a_process(world, "by_key", failpoints=f"rebuild.{moment}=kill")

    assert code == -signal.SIGKILL
    assert whole(world, "by_key") == 1  # as everybody sees it who has no ledger
    published = moment == "after_publish"
    assert served(world, "by_key") == (2 if published else 1)
    if published:
        # the next start of anything of this layer mends it
        assert publish.write_current(world.ledger, world.root, "by_key")
        with pytest.raises(NothingToBuild):
            world.builder().all_steps("by_key", full=False, until=None)
    else:
        assert builds.build(world.ledger, 2).state in ("building", "built", "equal")
        done = world.builder().all_steps("by_key", full=False, until=None)
        assert done.build.id == 3
        assert builds.build(world.ledger, 2).state == "abandoned"
    assert whole(world, "by_key") == 2
    assert not publish.write_current(world.ledger, world.root, "by_key")


def test_a_run_with_nothing_to_build_heals_and_starts_no_spark(world: Sealed) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    file = world.state / "views" / "by_key" / "current.json"
    file.write_text(json.dumps({"publication": 77}))
    asked = f"['--state', {str(world.state)!r}, 'by_key']"
    code = f"import sys; from batch import run; code = run.main({asked}); "
    code += "assert 'pyspark' not in sys.modules; sys.exit(code)"

    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stderr
    assert "there is nothing to build" in found.stdout
    assert whole(world, "by_key") == 1


def test_prove_and_publish_start_no_spark(world: Sealed) -> None:
    world.epochs(events(30))
    made = world.builder().plan("by_key", full=False, until=None)
    world.builder().rebuild(made.id)
    steps = "import sys; from batch import run; "
    for step in ("prove", "publish"):
        asked = f"['--state', {str(world.state)!r}, '--step', {step!r}, '--build', '{made.id}']"
        steps += f"assert run.main({asked}) == 0; "
    steps += "assert 'pyspark' not in sys.modules"

    found = subprocess.run(
        [sys.executable, "-P", "-c", steps],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stderr
    assert "equal: 6 partials" in found.stdout
    assert whole(world, "by_key") == 1


def test_the_second_of_two_builds_names_the_holder(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(30))
    codes = []

    def another_meanwhile(job: Job) -> list[DataFile]:
        command = ["--state", str(world.state), "by_key"]
        codes.append(subprocess_code(command))
        return in_process(job)

    done = world.builder(another_meanwhile, lease_ttl=timedelta(days=3650)).all_steps(
        "by_key", full=False, until=None
    )

    (found,) = codes
    assert found[0] == run.HELD == 3
    assert f"process {os.getpid()}" in found[1]
    assert done.publication.served
    # a build between two steps holds it too
    world.epochs(events(3))
    made = world.builder(build_idle=timedelta(days=3650)).plan("by_key", full=False, until=None)
    assert run.main(["--state", str(world.state), "by_key"]) == run.HELD
    assert f"build {made.id}, between two steps" in capsys.readouterr().err


def subprocess_code(arguments: list[str]) -> tuple[int, str]:
    found = subprocess.run(
        [sys.executable, "-P", "-m", "batch.run", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stderr


def test_a_rollback_meanwhile_makes_publishing_fail(world: Sealed) -> None:
    world.epochs(events(30))
    first = world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=42))

    def rolled_back_meanwhile(job: Job) -> list[DataFile]:
        with open_ledger(world.state) as ledger:
            builds.rollback(ledger, "by_key", None, NOW)
            publish.write_current(ledger, world.root, "by_key")
        return in_process(job)

    with pytest.raises(StaleToken):
        world.builder(rolled_back_meanwhile).all_steps("by_key", full=False, until=None)

    assert served(world, "by_key") == first.publication.id
    assert whole(world, "by_key") == 1
    assert builds.build(world.ledger, 3).state == "abandoned"
    # a build goes on from what is served
    done = world.builder().all_steps("by_key", full=False, until=None)
    assert done.build.base == first.publication.id
    assert whole(world, "by_key") == 3


def test_a_rollback_before_publishing_a_parked_build(world: Sealed) -> None:
    world.epochs(events(30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=30))
    world.builder().all_steps("by_key", full=False, until=None)
    world.epochs(events(12, start=42))
    made = world.builder().plan("by_key", full=False, until=None)
    world.builder().rebuild(made.id)
    world.builder().prove(made.id)
    builds.rollback(world.ledger, "by_key", None, NOW)

    with pytest.raises(StaleToken):
        world.builder().publish(made.id)
    assert served(world, "by_key") == 1


def test_the_lease_is_kept_while_a_build_works(world: Sealed) -> None:
    world.epochs(events(30))
    seen = []

    def slowly(job: Job) -> list[DataFile]:
        with open_ledger(world.state) as ledger:
            (before,) = [each for each in leases.leases(ledger) if each.name == "build/by_key"]
            seen.append(before.expires)
            while len(seen) < 2:
                (now,) = [each for each in leases.leases(ledger) if each.name == "build/by_key"]
                if now.expires > before.expires:
                    seen.append(now.expires)
        return in_process(job)

    clock = iter(NOW + timedelta(seconds=at) for at in range(10_000))
    chosen = builder(world.state, world.ledger, slowly, lease_every=0.01)
    chosen._now = lambda: next(clock)
    chosen.all_steps("by_key", full=False, until=None)

    assert seen[1] > seen[0]
    assert "build/by_key" not in {each.name for each in leases.leases(world.ledger)}
