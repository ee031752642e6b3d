"""rebuild, verify, versions and rollback on a state without Spark: what they print, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import update

from infra import asking, batching, cli, settings
from infra.asking import Answers
from infra.verbs import rebuild
from schemas.errors import DefinitionError, ViewUnknown
from schemas.ledger import leases, sealing, tables
from schemas.ledger.connect import open_ledger
from schemas.ledger.figures import figures
from schemas.ledger.files import RUN
from schemas.ledger.leases import Holder
from schemas.stored_file import StoredFile
from streaming.report import Report, StreamReport
from tests.api.world import Served, serving
from tests.engine.batching import Sealed, current, events

FOREVER = timedelta(days=36500)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path)
    yield made
    made.ledger.close()


def verb(world: Sealed, *arguments: str) -> int:
    name, *rest = arguments
    return cli.main([name, *rest, "--state", str(world.state), "--project", str(world.state)])


def built(world: Sealed, *views: str) -> None:
    builder = world.builder()
    for view in views:
        builder.all_steps(view, full=False, until=None)


# ---- versions, rollback


def test_versions_lists_the_newest_first(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(world, "versions", "by_key") == 0
    assert "nothing was published; `everview rebuild by_key` does" in capsys.readouterr().out
    for at in range(2):
        world.epochs(events(10, start=10 * at))
        built(world, "by_key")

    assert verb(world, "versions", "BY_KEY", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["publication"], each["cut"], each["served"]) for each in told] == [
        (2, 2, True),
        (1, 1, False),
    ]
    assert verb(world, "versions", "by_key") == 0
    shown = capsys.readouterr().out.splitlines()
    assert "served" in shown[1]
    assert "kept" in shown[2]
    assert verb(world, "versions", "nope") == 2
    assert "there is: all_visitors, by_key" in capsys.readouterr().err


def test_rollback_moves_the_pointer_and_says_so(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in range(3):
        world.epochs(events(10, start=10 * at))
        built(world, "by_key")

    assert verb(world, "rollback", "by_key") == 0
    assert capsys.readouterr().out == "view by_key: publication 3 (cut 3) -> 2 (cut 2)\n"
    assert current(world.state, "by_key")["publication"] == 2
    assert verb(world, "rollback", "by_key", "--to", "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"]["publication"], told["to"]["publication"]) == (2, 1)
    assert verb(world, "rollback", "by_key") == 2
    told = capsys.readouterr().err
    assert "there is no earlier publication of view 'by_key' to go back to" in told
    assert "others kept: 3, 2" in told
    assert verb(world, "verify", "by_key") == 0


# ---- verify


def test_verify_compares_what_the_files_hold(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(40))
    built(world, "by_key", "visitors")
    world.epochs(events(10, start=40))
    world.epoch(events(10, start=50), events(3))

    assert verb(world, "verify", "--json") == 0
    said = capsys.readouterr()
    assert "no serving runs: what the files hold is compared" in said.err
    told = {each["view"]: each for each in json.loads(said.out)}
    assert len(told) == 6
    assert all(each["epoch"] == 3 and each["different"] == 0 for each in told.values())
    assert (told["by_key"]["cut"], told["keys"]["cut"], told["by_key"]["rows"]) == (1, 0, 6)


def test_verify_tells_each_difference(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    world.epochs(events(40))
    alter_run(world, "by_key", "_count_0")

    assert verb(world, "verify", "by_key", "keys") == 1
    said = capsys.readouterr().out
    assert "by_key: 6 rows, 6 differ, at epoch 1 with cut 0" in said
    assert "    group (k = 'k1'), column hits: served 8, recounted 7" in said
    assert "    group (k = NULL), column hits: served 5, recounted 4" in said
    assert "keys: 6 rows, no difference, at epoch 1 with cut 0" in said
    counted = figures(world.ledger).views
    assert (counted["by_key"].mismatches, counted["keys"].mismatches) == (1, 0)


def test_verify_asks_serving(
    world: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(40))
    built(world, "by_key", "visitors")
    world.epoch(events(10, start=40))
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        address = str(client.base_url).rstrip("/")
        monkeypatch.setattr(asking, "of", lambda state: Answers(address, state))
        # what came after the answer is none of its trouble
        world.epoch(events(10, start=50))
        assert verb(world, "verify") == 0
        said = capsys.readouterr()
        assert "by_key: 6 rows, no difference, at epoch 2 with cut 1" in said.out
        assert said.err == ""


def test_verify_names_damage(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    world.epochs(events(40))
    (file,) = (world.state / "master").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1])

    assert verb(world, "verify", "by_key") == 1
    assert f"by_key: NOT VERIFIED: file 'master/hits/{file.name}' must be" in (
        capsys.readouterr().out
    )


def alter_run(world: Sealed, view: str, column: str) -> None:
    """One more in every row of a run, and the ledger names that."""
    version = world.folding.view(view).version
    (path,) = world.state.glob(f"runs/{view}/{version}/core/*.parquet")
    other = world.state / "altered.parquet"
    duckdb.execute(
        f"COPY (SELECT * REPLACE ({column} + 1 AS {column}) FROM '{path}') TO '{other}' "
        "(FORMAT parquet)"
    )
    name = path.relative_to(world.state).as_posix()
    stored = StoredFile.of(name, other.read_bytes())
    other.replace(path)
    with world.ledger.write() as connection:
        f = tables.files.c
        changed = update(tables.files).where(f.path == name, f.kind == RUN)
        connection.execute(changed.values(sha256=stored.sha256, bytes=stored.bytes))


# ---- rebuild


def test_rebuild_tells_each_view(
    world: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.epochs(events(40))
    lines = [
        {"view": "by_key", "publication": 1, "cut": 1, "rows": 6000, "seconds": 1.5}
        | {"proof": "repair: 3 differ", "verdict": "repair", "differences": ["core, group ()"]},
        {"view": "keys", "publication": None, "cut": 1},
        {"view": "everything", "error": "build 3 must equal"},
    ]
    code = f"import sys; [print(x) for x in {[json.dumps(each) for each in lines]}]; sys.exit(1)"
    asked: list[list[str]] = []

    def command(state: Path, chosen: settings.Settings) -> list[str]:
        asked.append([str(state), chosen.batch.master])
        return [sys.executable, "-c", code]

    monkeypatch.setattr(rebuild, "command", command)

    assert verb(world, "rebuild", "by_key", "Keys", "everything") == 1
    said = capsys.readouterr()
    assert "by_key: publication 1, cut 1, 6,000 rows in 1.5 s\n    repair: 3 differ" in said.out
    assert "REPAIR: what was counted before was wrong" in said.err
    assert "    core, group ()" in said.err
    assert "keys: published up to epoch 1 already; nothing to build" in said.out
    assert "everything: build 3 must equal" in said.err
    assert asked == [[str(world.state), "local[2,4]"]]
    assert verb(world, "rebuild", "by_key", "--json") == 1
    assert json.loads(capsys.readouterr().out) == lines


def test_rebuild_is_told_what_it_cannot_be_asked(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb(world, "rebuild") == 2
    assert verb(world, "rebuild", "by_key", "--all") == 2
    assert verb(world, "rebuild", "by_key", "--until", "0") == 2
    assert verb(world, "rebuild", "nope") == 2
    assert "view 'nope' must be a registered one" in capsys.readouterr().err


def test_the_command_has_every_setting(tmp_path: Path) -> None:
    (tmp_path / "everview.toml").write_text(
        '[batch]\nmaster = "local[1,4]"\nmemory = "2GB"\nrollback_window = "2 hours"\n'
        "proof_rows = 7\nfull_every = 5\n"
    )
    chosen = settings.load(tmp_path, {"EVERVIEW_BATCH_DRIVER_MEMORY": "2g"})
    command = rebuild.command(tmp_path, chosen)

    told = dict(zip(command[7::2], command[8::2], strict=True))
    assert told == {
        "--master": "local[1,4]",
        "--driver-memory": "2g",
        "--memory": "2GB",
        "--proof-rows": "7",
        "--rollback-window": "7200",
        "--full-every": "5",
    }
    (tmp_path / "everview.toml").write_text('[batch]\nrollback_window = "1 fortnight"\n')
    with pytest.raises(DefinitionError, match=r"must be a span of time up to 10 years such as"):
        settings.load(tmp_path, {})


def plan(world: Sealed, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "infra", "rebuild", *arguments, "--step", "plan"]
    command += ["--state", str(world.state), "--project", str(world.state), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_build_can_be_begun_alone(world: Sealed) -> None:
    world.epochs(events(40))
    world.epochs(events(5))
    begun = plan(world, "By_Key", "--until=1", "--full")
    assert begun.returncode == 0, begun.stderr
    told = json.loads(begun.stdout)
    assert (told["id"], told["view"], told["cut"], told["full"]) == (1, "by_key", 1, True)
    assert told["state"] == "building"

    second = plan(world, "by_key")
    assert (second.returncode, second.stdout) == (3, "")
    assert "build 1, between two steps" in second.stderr

    built(world, "keys")
    nothing = plan(world, "keys")
    assert nothing.returncode == 0
    assert json.loads(nothing.stdout) == {"id": None, "view": "keys", "cut": 2}
    assert "nothing to build" in nothing.stderr
    assert plan(world, "by_key", "keys").returncode == 2
    assert plan(world, "--all").returncode == 2


# ---- sealing is asked for and awaited


def test_without_streaming_the_last_boundary_is_taken(world: Sealed) -> None:
    world.epochs(events(5))
    world.epoch(events(5))
    said: list[str] = []
    batching.sealed(world.ledger, world.state, "hits", None, said.append)
    # the world's own lease is long over
    assert said == ["stream hits: no streaming runs; sealed up to epoch 1 of 2, which is taken"]
    said.clear()
    batching.sealed(world.ledger, world.state, "hits", 1, said.append)
    assert said == []


def test_with_streaming_it_is_asked_and_awaited(world: Sealed) -> None:
    world.epochs(events(5))
    world.epoch(events(5))
    lives(world, error=None)
    said: list[str] = []

    def seals() -> None:
        with open_ledger(world.state) as ledger:
            while sealing.requested_seal(ledger, "hits") == 0:
                asked.wait(0.01)
        world.seal_all()

    asked = threading.Event()
    thread = threading.Thread(target=seals)
    thread.start()
    batching.sealed(world.ledger, world.state, "hits", None, said.append)
    thread.join()

    assert said == []
    assert sealing.sealed_until(world.ledger, "hits") == 2


def test_a_stream_that_cannot_be_sealed_says_why(world: Sealed) -> None:
    world.epoch(events(5))
    lives(world, error="disk full")
    said: list[str] = []
    batching.sealed(world.ledger, world.state, "hits", None, said.append)
    assert said == [
        "stream hits: it cannot be sealed (disk full); sealed up to epoch 0 of 1, which is taken"
    ]


def lives(world: Sealed, *, error: str | None) -> None:
    """A driver that holds the stream's lease and has just reported."""
    now = datetime.now(UTC)
    holder = Holder("here", os.getpid(), 1.0)
    with open_ledger(world.state) as ledger:
        world.lease = leases.take(ledger, "stream/hits", holder, now, FOREVER, lambda _: False)
    stream = StreamReport(1, {}, None, 0, error)
    Report("running", now, {"hits": stream}).write(world.state / "run" / "streaming.json")


def test_names_are_found_whatever_their_case(world: Sealed) -> None:
    assert [row.name for row in batching.chosen(world.ledger, ["BY_KEY", "by_key"])] == ["by_key"]
    assert len(batching.chosen(world.ledger, [])) == 6
    with pytest.raises(ViewUnknown):
        batching.chosen(world.ledger, ["x"])
