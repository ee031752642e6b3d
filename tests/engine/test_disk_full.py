"""A full disk, at whatever write it is met: nothing half-written is named, nothing that counts is
lost, and the same step goes through once there is room again (invariants 4 and 5)."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from batch.compiled import Compiled
from batch.verify import verify
from schemas.errors import SealingFailed
from schemas.ledger import files, retention
from schemas.ledger.files import REJECTS, SEALED, SEGMENT
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from tests.engine.batching import Sealed, events
from tests.engine.conftest import ROOT
from tests.engine.retaining import retainer
from tests.engine.yard import VIEWS, Yard

pytestmark = pytest.mark.slow

VIEW = {"tally": "SELECT k, count(*) AS hits, approx_count_distinct(u) AS v FROM hits GROUP BY k"}
FOLDERS = ("segments", "master", "rejects", "ids", "runs", "batch", "views", "base")
KINDS = (SEGMENT, *SEALED, files.BATCH, files.FINISHED, files.BASE)
WAYS = ("half a file", "no fsync")


def full_at(patch: pytest.MonkeyPatch, number: int, way: str) -> list[str]:
    """The disk is full at one write of data files, by its number: half of the file is there, or all
    of it but its fsync fails. Gives the folders that are written to, as they are."""
    written: list[str] = []
    write, fsync = DataRoot.write, os.fsync

    def fails(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def counted(root: DataRoot, folder: str, name: str, make: Callable[[Path], None]) -> StoredFile:
        written.append(folder)
        if len(written) != number:
            return write(root, folder, name, make)

        def half(path: Path) -> None:
            make(path)
            if way == "half a file":
                os.truncate(path, path.stat().st_size // 2)
                fails(0)
            patch.setattr(os, "fsync", fails)

        try:
            return write(root, folder, name, half)
        finally:
            patch.setattr(os, "fsync", fsync)

    patch.setattr(DataRoot, "write", counted)
    return written


def until_it_passes(
    monkeypatch: pytest.MonkeyPatch, way: str, step: Callable[[], object], after: Callable[[], None]
) -> list[str]:
    """Lets a step fail at its first write, then at its second, ... until it has no more of them;
    each time `after` is to hold. Gives the folders of its writes."""
    for number in range(1, 100):
        with monkeypatch.context() as patch:
            written = full_at(patch, number, way)
            try:
                step()
            except (OSError, SealingFailed) as error:
                if "No space left" not in str(error):
                    raise
            else:
                assert len(written) < number  # no trouble was swallowed
                return written
        after()
    raise AssertionError


def on_disk(state: Path) -> set[str]:
    return {
        each.relative_to(state).as_posix()
        for folder in FOLDERS
        for each in (state / folder).rglob("*")
        if each.is_file() and each.name != "current.json"
    }


def named(world: Sealed) -> set[str]:
    return {each for kind in KINDS for each in files.named(world.ledger, kind, world.name)}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path, views={"visitors": VIEWS["visitors"]})
    yield made
    made.ledger.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    """Epochs 1 and 2 are published, 3 is sealed."""
    made = Sealed(tmp_path, views=VIEW)
    made.epochs(events(40), events(30, start=40))
    made.builder().all_steps("tally", full=False, until=None)
    made.epochs(events(20, start=70))
    yield made
    made.ledger.close()


def hits(world: Sealed) -> int:
    """How many events are counted, as everybody sees it who has no ledger."""
    return sum(int(row[1]) for row in world.finished("tally"))


def agrees(world: Sealed) -> bool:
    """Whether what is there is the recount."""
    done = verify(
        world.ledger, world.root, Compiled(world.ledger), "tally", None, memory="256MB", threads=1
    )
    return done.comparison.different == 0


@pytest.mark.parametrize("way", WAYS)
def test_at_a_segment(yard: Yard, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    task = {0: [b'{"k": "a", "u": 1, "n": 1}']}

    def nothing_is_committed() -> None:
        assert yard.epochs() == []
        assert not [each for each in yard.on_disk() if each.endswith(".part")]

    written = until_it_passes(
        monkeypatch, way, lambda: yard.epoch(task, task), nothing_is_committed
    )
    assert written == [f"segments/{yard.name}"] * 2
    assert [each.accepted for each in yard.epochs()] == [2]


@pytest.mark.parametrize("way", WAYS)
def test_at_sealing_and_merging(yard: Yard, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    for at in range(2):
        yard.epoch({0: [b'{"k": "a", "u": %d, "n": 1}' % at, b"no JSON"]})
    yard.clock += timedelta(minutes=1)

    def nothing_is_left() -> None:
        assert yard.on_disk() == yard.named()

    def step() -> None:
        yard.sealer(seal_epochs=1, merge_fanout=2).step()

    until_it_passes(monkeypatch, way, step, nothing_is_left)
    assert yard.spans() == [(1, 2)]
    assert yard.files(files.MASTER).num_rows == yard.files(REJECTS).num_rows == 2


@pytest.mark.parametrize(("way", "full"), [*zip(WAYS, (False, True), strict=True)])
def test_at_a_build(world: Sealed, monkeypatch: pytest.MonkeyPatch, way: str, full: bool) -> None:
    def the_old_one_answers() -> None:
        assert hits(world) == 70

    def build() -> None:
        world.builder().all_steps("tally", full=full, until=None)

    written = until_it_passes(monkeypatch, way, build, the_old_one_answers)
    assert len(written) == 3
    assert (hits(world), agrees(world)) == (90, True)
    assert on_disk(world.state) == named(world)


@pytest.mark.parametrize("way", WAYS)
def test_at_retention(world: Sealed, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def nothing_is_let_go() -> None:
        assert retention.retained_until(world.ledger, world.name) == 0
        assert hits(world) == 70

    def retain() -> None:
        retainer(world.state, world.ledger, 2).retain(world.name)

    written = until_it_passes(monkeypatch, way, retain, nothing_is_let_go)
    assert [each.rpartition("/")[2] for each in written] == ["core", "registers_0"]
    assert retention.retained_until(world.ledger, world.name) == 2
    assert on_disk(world.state) == named(world)
    world.builder().all_steps("tally", full=True, until=None)
    assert (hits(world), agrees(world)) == (90, True)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("batching", "tally"), ("retaining", "hits", "2")])
def test_at_any_write_the_ledger_included(world: Sealed, words: tuple[str, ...]) -> None:
    """The first bytes of any file can be written, of the ledger's log too, and no more."""
    module, *rest = words
    command = [sys.executable, "-m", f"tests.engine.{module}", str(world.state), *rest]
    codes = []
    for limit in (1_000, 3_000, 20_000, 60_000, None):
        most = resource.RLIM_INFINITY if limit is None else limit
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most)),
        )
        codes.append(done.returncode)
        if done.returncode == 0:
            break
        assert "Error" in done.stderr or "LedgerUnwritable" in done.stderr
        assert hits(world) == 70
    assert agrees(world)
    assert codes[0] == codes[1] == 1
    assert codes[-1] == 0
    assert hits(world) == (90 if module == "batching" else 70)
    assert retention.retained_until(world.ledger, world.name) == (2 if module == "retaining" else 0)
