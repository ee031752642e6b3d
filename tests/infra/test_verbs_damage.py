"""scrub and ledger restore as verbs: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import cli
from infra.damage.scrub import Pace
from schemas.ledger import files, repairs
from schemas.ledger.connect import NAME
from schemas.ledger.copies import back_up, backups
from schemas.ledger.files import BATCH, MASTER, RUN
from schemas.storage import DataRoot
from streaming.orphans import remove_orphans
from tests.engine.batching import Sealed, events
from tests.engine.conftest import ROOT
from tests.engine.damaging import flip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    made.epochs(events(20), events(20, start=20))
    yield made
    made.ledger.close()


def verb(world: Sealed, *arguments: str) -> int:
    folder = str(world.state.parent / "project")
    return cli.main([*arguments, "--state", str(world.state), "--project", folder])


def damage(world: Sealed, kind: str) -> str:
    held = next(each for each in repairs.counting(world.ledger) if each.data.kind == kind)
    flip(world.root, held.data.file.path)
    return held.data.file.path


def test_whole_files(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(world, "scrub") == 0
    said = capsys.readouterr()
    assert said.out.endswith("MB read: none damaged\n")
    assert said.err == ""


def test_a_run_is_named_then_repaired(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    path = damage(world, RUN)
    assert verb(world, "scrub") == 1
    named, remedy, total = capsys.readouterr().out.splitlines()
    assert named.startswith(f"DAMAGED run {path} (stream hits, view ")
    assert "epochs 1 to 2, offsets 0: 0..39): must be " in named
    assert remedy == "    `everview scrub --repair` folds it from the master"
    assert "1 damaged" in total

    assert verb(world, "scrub", "--repair", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = told["damaged"]
    assert (found["path"], found["epochs"], found["offsets"]) == (path, [1, 2], [[0, 0, 40]])
    assert found["outcome"].startswith("repaired: runs/")
    assert verb(world, "scrub") == 0


def test_what_cannot_be_repaired_says_what_can_be_done(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    world.builder().all_steps("by_key", full=False, until=None)
    damage(world, BATCH)
    master = damage(world, MASTER)
    assert verb(world, "scrub", "--repair", "--rate", "0") == 1
    said = capsys.readouterr().out
    assert "not repaired: `everview rebuild by_key --full` publishes others in its place" in said
    assert "not repaired: no broker was named to read offsets 0: 0..39 from" in said
    assert [e.data.file.path for e in repairs.counting(world.ledger) if e.data.kind == MASTER] == [
        master
    ]


def test_a_reference_is_taken_from_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.csv").write_text("k,name\na,Anna\n")
    (tmp_path / "all.sql").write_text(
        "CREATE STREAM hits (k VARCHAR) WITH (topic = 'hits', format = 'json');\n"
        "CREATE TABLE names (k VARCHAR PRIMARY KEY, name VARCHAR) WITH (file = 'names.csv');\n"
        "CREATE VIEW named AS SELECT name, count(*) AS n FROM hits JOIN names USING (k) GROUP BY 1;"
    )
    where = ["--project", str(tmp_path)]
    assert cli.main(["deploy", *where]) == 0
    assert len(backups(tmp_path / ".everview")) == 1
    (kept,) = (tmp_path / ".everview" / "references").iterdir()
    kept.write_text("k,name\na,Anne\n")
    assert cli.main(["scrub", *where]) == 1
    assert f"DAMAGED reference references/{kept.name}: must be " in capsys.readouterr().out
    assert cli.main(["scrub", "--repair", *where]) == 0
    assert kept.read_text() == "k,name\na,Anna\n"
    kept.unlink()
    (tmp_path / "names.csv").write_text("k,name\na,Other\n")
    assert cli.main(["scrub", "--repair", *where]) == 1
    assert "no reference of the project has its content" in capsys.readouterr().out


def test_a_negative_rate_is_refused(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(world, "scrub", "--rate", "-1") == 2
    assert "--rate must be 0 or more; got -1" in capsys.readouterr().err


def test_no_more_than_the_rate_is_read() -> None:
    begun, pace = time.monotonic(), Pace(10e6)
    for _ in range(20):
        pace.passed(100_000)
    assert time.monotonic() - begun >= 0.15


def test_a_lost_ledger_is_restored(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(world, "ledger", "restore") == 2
    assert "got a healthy one" in capsys.readouterr().err
    assert back_up(world.state, lambda _: None) is not None
    world.ledger.close()
    (world.state / NAME).unlink()
    assert verb(world, "ledger", "restore") == 0
    first, stream, *views = capsys.readouterr().out.splitlines()
    assert first.startswith("restored from backups/ledger-")
    assert stream == (
        "stream hits: up to epoch 2, sealed up to 2 (the copy knew 2); it goes on from Kafka at "
        "0: 40"
    )
    assert "view by_key: it answers from the runs and segments" in views
    assert verb(world, "scrub") == 0


def test_a_repair_that_is_killed_changed_nothing(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damage(world, RUN)
    command = [sys.executable, "-P", "-m", "infra", "scrub", "--repair"]
    command += ["--state", str(world.state), "--project", str(world.state)]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "EVERVIEW_TEST": "1"}
    own["EVERVIEW_FAILPOINTS"] = "repair.after_file=kill"
    found = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, check=False)
    assert found.returncode == -signal.SIGKILL
    assert path in [each.data.file.path for each in repairs.counting(world.ledger)]

    assert verb(world, "scrub", "--repair") == 0
    assert "repaired: runs/" in capsys.readouterr().out
    left = [each for each in (world.state / "runs").rglob("*.parquet") if each.is_file()]
    names = files.named(world.ledger, RUN, world.name)
    assert len(left) == len(names) + 1  # which goes when streaming starts: its token is old then
    remove_orphans(world.root, world.ledger, world.name, world.lease.token + 1)
    left = [each for each in (world.state / "runs").rglob("*.parquet") if each.is_file()]
    assert {each.relative_to(world.state).as_posix() for each in left} == names


def test_whole_files_are_taken_from_a_backup(
    world: Sealed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.builder().all_steps("by_key", full=False, until=None)
    copy = tmp_path / "copy"
    assert verb(world, "backup", str(copy)) == 0
    held = repairs.counting(world.ledger)
    damaged = [damage(world, kind) for kind in (BATCH, MASTER, RUN)]
    flip(DataRoot(copy), damaged[2])  # of which the copy is damaged too
    assert verb(world, "scrub", "--repair", "--from", str(copy)) == 0
    said = capsys.readouterr().out
    assert said.count("repaired: it was copied from the backup") == 2
    assert said.count("repaired: runs/") == 1
    after = {each.data.file.path for each in repairs.counting(world.ledger)}
    assert {each.data.file.path for each in held} - after == {damaged[2]}
    assert verb(world, "scrub") == 0
    assert verb(world, "scrub", "--from", str(copy)) == 2
