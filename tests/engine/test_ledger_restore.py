"""A lost ledger comes back from its newest copy and the files: every answer equals the recount, and
streaming goes on where whole files end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from batch import verify
from batch.compiled import Compiled
from infra.recovery import restore
from infra.recovery.restore import Restored
from infra.stack import only_supervisor
from schemas.errors import RestoreRefused, StackRunning
from schemas.ledger import builds, leases, repairs, sealing, versions
from schemas.ledger.connect import NAME, open_ledger
from schemas.ledger.copies import back_up, backups
from schemas.ledger.epochs import lease_name, progress
from schemas.ledger.files import BATCH, IDS, MASTER, REJECTS, RUN, SEGMENT
from schemas.ledger.leases import Holder
from schemas.position import Position
from streaming.orphans import remove_orphans, token_of
from tests.engine.batching import builder
from tests.engine.conftest import ROOT
from tests.engine.damaging import Logged, flip
from tests.engine.test_damage import hit, hits, seal
from tests.engine.yard import KEYED

pytestmark = pytest.mark.slow
LATER = datetime(2026, 9, 1, tzinfo=UTC)  # every lease of a yard has expired


def unsaid(text: str) -> None:
    raise AssertionError(text)


def more(yard: Logged, count: int) -> None:
    """Epochs of one segment each, with a reject and a repeated id in each."""
    for _ in range(count):
        at = progress(yard.ledger, yard.name).epoch
        yard.epoch({0: hits(at * 3, at * 3 + 6)[0], 1: [b"no json", hit(100 + at, at)]})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A deploy, four epochs, a publication, two sealed epochs, two that are not: the newest copy
    of the ledger is that of the publication."""
    made = Logged(tmp_path_factory.mktemp("yard"), KEYED)
    back_up(made.state, unsaid)
    more(made, 4)
    seal(made, seal_epochs=2, merge_fanout=9)
    builder(made.state, made.ledger).all_steps("by_key", full=False, until=None)
    assert len(backups(made.state)) == 2
    # a copy in which this process, that lives on, does not hold the build's lease
    backups(made.state)[0].unlink()
    back_up(made.state, unsaid)
    more(made, 2)
    seal(made, seal_epochs=2, merge_fanout=9)
    more(made, 2)
    assert made.spans() == [(1, 2), (3, 4), (5, 6)]
    return made


@pytest.fixture
def yard(made: Logged, tmp_path: Path) -> Iterator[Logged]:
    copied = made.copied(tmp_path)
    yield copied
    copied.ledger.close()


def clean(yard: Logged) -> None:
    """Unlink what stopped counting; seal nothing."""
    yard.clock = LATER
    seal(yard, keep_removed=timedelta(0), seal_every=timedelta(days=9999))


def lose(yard: Logged) -> None:
    yard.ledger.close()
    for file in yard.state.glob(f"{NAME}*"):
        file.unlink()


def restored(yard: Logged) -> Restored:
    told = restore.restore(yard.state, lambda: yard.folding.project, LATER, lambda _: None)
    yard.ledger = open_ledger(yard.state)
    return told


def different(yard: Logged) -> dict[str, int]:
    """View -> rows that differ from the recount over the master."""
    found = {}
    for row in versions.views(yard.ledger):
        done = verify.verify(
            yard.ledger,
            yard.root,
            Compiled(yard.ledger),
            row.name,
            None,
            memory="512MB",
            threads=1,
        )
        found[row.name] = done.comparison.different
    return found


def none_differ(yard: Logged) -> bool:
    return set(different(yard).values()) == {0}


def contiguous(yard: Logged) -> Position:
    """The position after all spans, each of which begins where the one before ended."""
    position, epoch = Position(), 0
    for each in repairs.spans(yard.ledger, yard.name):
        assert each.first == epoch + 1
        position, epoch = position.advance(each.ranges), each.last
        assert position == each.position
    return position


def goes_on(yard: Logged) -> None:
    """Whoever streams next removes nothing that counts, and its epochs follow."""
    yard.clock = LATER
    leases.take(
        yard.ledger,
        lease_name(yard.name),
        Holder("next", 1, 0.0),
        LATER,
        timedelta(days=1),
        alive=lambda _: False,
    )
    yard.token = repairs.token(yard.ledger, yard.name)
    tokens = [token_of(Path(each).name) for each in yard.on_disk()]
    assert all(token is not None and token < yard.token for token in tokens)
    remove_orphans(yard.root, yard.ledger, yard.name, yard.token)
    assert yard.on_disk() == yard.named()
    before = progress(yard.ledger, yard.name).epoch
    more(yard, 2)
    seal(yard, merge_fanout=2)
    assert sealing.sealed_until(yard.ledger, yard.name) == before + 2
    assert none_differ(yard)
    assert yard.scrub().damaged == []


def test_what_was_committed_is_there_again(yard: Logged) -> None:
    answers, at = yard.answers(), progress(yard.ledger, yard.name)
    spans, state = repairs.spans(yard.ledger, yard.name), yard.ledger.state()
    files = {each.data for each in repairs.counting(yard.ledger)}
    lose(yard)
    told = restored(yard)
    assert told.source.startswith("backups/ledger-")
    assert told.streams["hits"] == {
        "epoch": 8,
        "sealed": 6,
        "unsealed": 2,
        "position": at.position.json(),
        "epoch_of_the_copy": 4,
    }
    assert told.left == []
    assert told.views["by_key"] == "publication 1 is served"
    assert progress(yard.ledger, yard.name) == at
    assert repairs.spans(yard.ledger, yard.name) == spans
    assert {each.data for each in repairs.counting(yard.ledger)} == files
    assert contiguous(yard) == at.position
    assert yard.ledger.state() > state
    assert yard.answers() == answers
    assert none_differ(yard)
    assert builds.publications(yard.ledger, "by_key")[0].served
    goes_on(yard)
    builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
    assert none_differ(yard)


def test_without_the_newest_copy_the_publication_is_lost_and_no_event(yard: Logged) -> None:
    """Its runs below the cut are gone too: they are made from the master."""
    answers, at = yard.answers(), progress(yard.ledger, yard.name)
    clean(yard)
    lose(yard)
    backups(yard.state)[0].unlink()
    told = restored(yard)
    assert told.streams["hits"]["epoch_of_the_copy"] == 0
    assert any("was made from the master" in each for each in told.notes)
    assert progress(yard.ledger, yard.name) == at
    assert contiguous(yard) == at.position
    assert yard.answers() == answers
    assert none_differ(yard)
    assert builds.publications(yard.ledger, "by_key") == []
    done = builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
    assert done.build.id > 1  # its number was given before
    assert none_differ(yard)
    goes_on(yard)


def test_without_any_copy_the_project_and_the_files_tell(yard: Logged) -> None:
    answers, at = yard.answers(), progress(yard.ledger, yard.name)
    clean(yard)
    lose(yard)
    shutil.rmtree(yard.state / "backups")
    told = restored(yard)
    assert told.source.startswith("the project")
    assert progress(yard.ledger, yard.name).position == at.position
    assert progress(yard.ledger, yard.name).topic_id == "topic-id"
    assert told.views["by_key"].startswith("run `everview rebuild by_key`")
    builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
    assert yard.answers() == answers
    assert none_differ(yard)
    goes_on(yard)


def test_files_that_were_merged_since_take_the_place_of_those_that_the_copy_names(
    yard: Logged,
) -> None:
    more(yard, 2)
    seal(yard)
    back_up(yard.state, unsaid)
    yard.clock += timedelta(hours=1)
    seal(yard, merge_fanout=2, keep_removed=timedelta(0))
    yard.clock += timedelta(hours=1)
    more(yard, 1)
    seal(yard, merge_fanout=9, seal_every=timedelta(days=1), keep_removed=timedelta(0))
    answers, spans = yard.answers(), repairs.spans(yard.ledger, yard.name)
    assert (5, 10) in yard.spans()
    lose(yard)
    told = restored(yard)
    assert [each for each in told.notes if "damaged" in each] == []
    assert repairs.spans(yard.ledger, yard.name) == spans
    assert yard.answers() == answers
    goes_on(yard)


def test_a_hole_ends_it_and_what_follows_is_said(yard: Logged) -> None:
    (segment,) = (each for each in yard.epochs() if each.epoch == 7)
    (later,) = (each for each in yard.epochs() if each.epoch == 8)
    lose(yard)
    yard.root.remove(segment.segments[0].file.path)
    told = restored(yard)
    assert told.streams["hits"]["epoch"] == 6
    assert told.streams["hits"]["position"] == contiguous(yard).json()
    assert [each["path"] for each in told.left] == [later.segments[0].file.path]
    assert told.left[0]["offsets"] == [[r.partition, r.start, r.until] for r in later.ranges]
    (kept,) = (yard.state / "left").rglob("*.zip")
    assert kept.name in later.segments[0].file.path
    assert none_differ(yard)
    goes_on(yard)


def test_a_damaged_file_is_not_adopted(yard: Logged) -> None:
    """Of a later epoch: nobody can tell that it was whole; of one that the copy knows: named."""
    master = yard.held(MASTER, 2)
    assert master.data.first == 5
    known = yard.held(MASTER, 0)
    clean(yard)
    lose(yard)
    flip(yard.root, master.data.file.path)
    flip(yard.root, known.data.file.path)
    told = restored(yard)
    assert told.streams["hits"]["epoch"] == 4
    (note,) = (each for each in told.notes if "scrub" in each)
    assert known.data.file.path in note
    assert [each.path for each in yard.scrub().damaged] == [known.data.file.path]
    assert all(text.startswith("repaired") for text in yard.repair().values())
    assert none_differ(yard)


@pytest.mark.parametrize("kind", [REJECTS, IDS, RUN])
def test_a_range_without_its_rejects_is_a_hole_and_other_files_are_made_again(
    yard: Logged, kind: str
) -> None:
    lost = [e for e in repairs.counting(yard.ledger) if (e.data.kind, e.data.first) == (kind, 5)]
    answers = yard.answers()
    clean(yard)
    lose(yard)
    for each in lost:
        yard.root.remove(each.data.file.path)
    told = restored(yard)
    if kind == REJECTS:  # its rows are the only record of them
        assert told.streams["hits"]["epoch"] == 4
        assert {each["path"].partition("/")[0] for each in told.left} >= {"master", "runs"}
    else:
        assert told.streams["hits"]["epoch"] == 8
        assert yard.answers() == answers
        made = [
            e for e in repairs.counting(yard.ledger) if (e.data.kind, e.data.first) == (kind, 5)
        ]
        assert len(made) == len(lost)
    assert none_differ(yard)
    goes_on(yard)


def test_an_epoch_of_several_segments_needs_a_copy_that_knows_it(tmp_path: Path) -> None:
    """One of its segments cannot tell whether there were others."""
    yard = Logged(tmp_path)
    yard.epoch(hits(0, 5), hits(5, 9, partition=1))
    back_up(yard.state, unsaid)
    yard.epoch(hits(9, 12), hits(12, 13, partition=1))
    yard.epoch(hits(13, 14))
    lose(yard)
    told = restored(yard)
    assert told.streams["hits"]["epoch"] == 1
    assert len(told.left) == 3
    assert none_differ(yard)
    goes_on(yard)


def test_of_two_attempts_the_one_that_was_gone_on_from_is_adopted(tmp_path: Path) -> None:
    yard = Logged(tmp_path)
    back_up(yard.state, unsaid)
    other = yard.copied(tmp_path / "other")
    other.epoch(hits(0, 5))  # written, never committed
    yard.epoch(hits(0, 9))
    yard.epoch(hits(9, 12))
    answers = yard.answers()
    shutil.copytree(other.state / "segments", yard.state / "segments", dirs_exist_ok=True)
    lose(yard)
    told = restored(yard)
    assert told.streams["hits"]["epoch"] == 2
    assert yard.answers() == answers
    goes_on(yard)
    other.ledger.close()


def test_segments_that_are_still_there_stand_in_for_a_damaged_range(yard: Logged) -> None:
    answers, master = yard.answers(), yard.held(MASTER, 2)
    lose(yard)
    flip(yard.root, master.data.file.path)
    told = restored(yard)
    assert (told.streams["hits"]["sealed"], told.streams["hits"]["epoch"]) == (4, 8)
    assert yard.answers() == answers
    goes_on(yard)


def test_a_damaged_ledger_is_kept_beside(yard: Logged) -> None:
    answers = yard.answers()
    yard.ledger.close()
    (yard.state / NAME).write_bytes(b"no ledger" * 1000)
    restored(yard)
    assert yard.answers() == answers
    (kept,) = yard.state.glob(f"{NAME}.damaged-*")
    assert kept.read_bytes().startswith(b"no ledger")


def test_the_log_of_the_lost_ledger_never_meets_the_new_one(yard: Logged) -> None:
    answers = yard.answers()
    with yard.ledger.write() as connection:
        connection.exec_driver_sql("UPDATE epochs SET accepted = 0")
    wal = (yard.state / f"{NAME}-wal").read_bytes()
    assert wal
    lose(yard)
    (yard.state / f"{NAME}-wal").write_bytes(wal)
    restored(yard)
    assert yard.answers() == answers
    assert none_differ(yard)
    assert [each.accepted for each in yard.epochs()] == [7, 7]
    assert len(list(yard.state.glob(f"{NAME}.damaged-*-wal"))) == 1


def test_it_is_refused_where_somebody_may_write(yard: Logged) -> None:
    with pytest.raises(RestoreRefused, match="healthy"):
        restored(yard)
    me = psutil.Process()
    leases.take(
        yard.ledger,
        lease_name(yard.name),
        Holder(os.uname().nodename, me.pid, me.create_time()),
        LATER,
        timedelta(days=1),
        alive=lambda _: False,
    )
    back_up(yard.state, unsaid)
    lose(yard)
    with pytest.raises(RestoreRefused, match=f"process {me.pid}"):
        restored(yard)
    backups(yard.state)[0].unlink()
    report = yard.state / "run" / "streaming.json"
    report.write_text(json.dumps({"pid": me.pid, "state": "running"}))
    with pytest.raises(RestoreRefused, match="may stream"):
        restored(yard)
    report.write_text(json.dumps({"pid": me.pid, "state": "stopped"}))
    with only_supervisor(yard.state), pytest.raises(StackRunning):
        restored(yard)
    restored(yard)


def test_a_restore_that_is_killed_left_nothing(yard: Logged) -> None:
    answers = yard.answers()
    lose(yard)
    command = [sys.executable, "-P", "-m", "infra", "ledger", "restore", "--json"]
    command += ["--state", str(yard.state), "--project", str(yard.folding.project.folder)]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "EVERVIEW_TEST": "1"}

    def run(failpoints: str) -> subprocess.CompletedProcess[str]:
        environment = {**own, "EVERVIEW_FAILPOINTS": failpoints}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert run("restore.before_link=kill").returncode == -signal.SIGKILL
    assert not (yard.state / NAME).exists()
    done = run("")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["streams"]["hits"]["epoch"] == 8
    assert not list(yard.state.glob(".ledger-*"))
    yard.ledger = open_ledger(yard.state)
    assert yard.answers() == answers
    assert none_differ(yard)
    assert [e for e in repairs.counting(yard.ledger) if e.data.kind == SEGMENT]
    assert run("").returncode == 2


def test_a_build_that_the_copy_does_not_know_keeps_its_number(tmp_path: Path) -> None:
    yard = Logged(tmp_path)
    for _ in range(2):
        more(yard, 2)
        seal(yard)
        builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
        if len(builds.publications(yard.ledger, "by_key")) == 1:
            back_up(yard.state, unsaid)
    for each in backups(yard.state)[:1]:  # that of the second publication
        each.unlink()
    lose(yard)
    told = restored(yard)
    assert told.views["by_key"] == "publication 1 is served"
    assert none_differ(yard)
    current = json.loads((yard.state / "views" / "by_key" / "current.json").read_text())
    assert (current["publication"], current["cut"]) == (1, 2)
    done = builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
    assert done.build.id == 3
    assert none_differ(yard)


def test_a_publication_without_its_files_is_dropped(yard: Logged) -> None:
    answers = yard.answers()
    (batch,) = (e for e in repairs.counting(yard.ledger) if e.data.kind == BATCH)
    lose(yard)
    flip(yard.root, batch.data.file.path)
    told = restored(yard)
    assert "publication 1 is not whole" in told.views["by_key"]
    assert {each.publication for each in versions.views(yard.ledger)} == {None}
    assert yard.answers() == answers  # its runs are made from the master
    builder(yard.state, yard.ledger).all_steps("by_key", full=False, until=None)
    assert none_differ(yard)
    goes_on(yard)
