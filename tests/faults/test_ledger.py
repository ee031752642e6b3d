"""The ledger itself: killed, busy, full, damaged, made and opened (invariants 2, 4, 5)."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, select

from schemas.errors import (
    DamagedFile,
    LedgerBusy,
    LedgerMissing,
    LedgerTooNew,
)
from schemas.ledger import leases, migrations, tables
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.epochs import (
    epochs_after,
    progress,
)
from schemas.position import Position
from tests.faults.committer import (
    FLIGHTS,
    FOLDED,
    NOW,
    TTL,
    commit_some,
    deploy,
    hold,
    rows,
)

ROOT = Path(__file__).parents[2]


def test_the_state_number_grows_with_each_transaction(ledger: Ledger) -> None:
    number = ledger.state()
    lease = hold(ledger)
    assert ledger.state() == number + 1
    commit_some(ledger, 1, lease.token)
    assert ledger.state() == number + 2
    with pytest.raises(RuntimeError), ledger.write():
        raise RuntimeError
    assert ledger.state() == number + 2
    leases.renew(ledger, lease, NOW, TTL)
    leases.release(ledger, lease)
    assert ledger.state() == number + 4


def test_the_state_number_of_other_processes_is_noticed(ledger: Ledger, state: Path) -> None:
    number = ledger.state()
    program = f"""
from pathlib import Path
from schemas.ledger.connect import open_ledger
with open_ledger(Path({str(state)!r})) as ledger, ledger.write(): pass
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert ledger.state() == number + 1


def test_nothing_is_read_while_nothing_happens(ledger: Ledger) -> None:
    ledger.state()
    asked: list[str] = []
    ledger._watch.set_trace_callback(asked.append)

    for _ in range(5):
        ledger.state()

    assert asked == ["PRAGMA data_version"] * 5


def committer(
    state: Path,
    log: Path,
    stream: str = FLIGHTS,
    pid: int = 1,
    *,
    failpoints: str = "",
    limit: int = resource.RLIM_INFINITY,
) -> subprocess.Popen[bytes]:
    """A process that commits; no file of it may grow beyond `limit` bytes."""
    arguments = [str(state), str(log), stream, str(pid)]
    command = [sys.executable, "-m", "tests.faults.committer", *arguments]
    environment = {**os.environ, "EVERVIEW_FAILPOINTS": failpoints, "EVERVIEW_TEST": "1"}
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard)),
    )


def acknowledged(log: Path) -> list[int]:
    """Whole lines only: the last one may be cut by the kill."""
    text = log.read_text(encoding="ascii") if log.exists() else ""
    return [int(line) for line in text.split("\n")[:-1]]


def wait_for(log: Path, count: int, child: subprocess.Popen[bytes]) -> None:
    while len(acknowledged(log)) < count:
        assert child.poll() is None, child.communicate()[1].decode()
        time.sleep(0.002)


def check_whole(state: Path, stream: str, acks: list[int]) -> int:
    """All or nothing of every epoch, all that was acknowledged; gives the last one's number."""
    with sqlite3.connect(state / "ledger.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
    with open_ledger(state) as ledger:
        found = epochs_after(ledger, stream, 0, 1_000_000)
        last = progress(ledger, stream)
    assert [epoch.epoch for epoch in found] == list(range(1, len(found) + 1))
    assert set(acks) <= {epoch.epoch for epoch in found}
    assert len(acks) == len(set(acks))
    position = Position()
    for epoch in found:
        position = position.advance(epoch.ranges)
        assert epoch.position == position
        assert (len(epoch.ranges), len(epoch.segments), epoch.accepted) == (2, 2, 18)
        assert epoch.folded == frozenset(FOLDED)
    assert (last.epoch, last.position) == (len(found), position)
    return len(found)


def test_2a_killed_at_any_moment_an_epoch_is_there_whole_or_not_at_all(
    state: Path, tmp_path: Path
) -> None:
    log, draw, committed = tmp_path / "acknowledged", random.Random(20260101), 0
    with open_ledger(state, create=True) as ledger:
        deploy(ledger)
    for _ in range(8):
        before = acknowledged(log)
        with committer(state, log) as child:
            wait_for(log, len(before) + 3, child)
            at = time.monotonic() + draw.random() * 0.01
            while time.monotonic() < at:
                pass
            child.kill()
            child.communicate()
        acks = acknowledged(log)
        committed = check_whole(state, FLIGHTS, acks)
        assert committed - len(set(acks)) <= 8  # at most one in flight per kill
    assert committed >= 24


@pytest.mark.parametrize("hit", [1, 3])
def test_2a_killed_inside_the_transaction_nothing_of_it_is_there(
    state: Path, tmp_path: Path, hit: int
) -> None:
    log = tmp_path / "acknowledged"
    with open_ledger(state, create=True) as ledger:
        deploy(ledger)

    with committer(state, log, failpoints=f"epoch.in_commit=kill@{hit}") as child:
        child.communicate()

    assert child.returncode == -signal.SIGKILL
    assert acknowledged(log) == list(range(1, hit))
    assert check_whole(state, FLIGHTS, acknowledged(log)) == hit - 1
    with committer(state, log) as child:
        wait_for(log, hit + 2, child)
        child.kill()
        child.communicate()
    check_whole(state, FLIGHTS, acknowledged(log))


def test_two_processes_commit_to_one_ledger(state: Path, tmp_path: Path) -> None:
    streams = {name: tmp_path / name for name in ("trains", "ships")}
    with open_ledger(state, create=True) as ledger:
        deploy(ledger, *streams)
        number = ledger.state()
    children = [committer(state, log, name) for name, log in streams.items()]
    for child, log in zip(children, streams.values(), strict=True):
        wait_for(log, 60, child)
    for child in children:
        child.kill()
        child.communicate()

    counts = [check_whole(state, name, acknowledged(log)) for name, log in streams.items()]

    with open_ledger(state) as ledger:
        assert ledger.state() == number + 2 + sum(counts)  # two leases taken, every epoch once


def test_f13_a_busy_ledger_is_waited_for_and_then_loud(state: Path) -> None:
    with open_ledger(state, create=True) as other, open_ledger(state, busy=0.1) as ours:
        deploy(ours)
        token = hold(ours).token
        with other.write():
            with pytest.raises(LedgerBusy, match=r"free for writing within 0\.1 s"):
                commit_some(ours, 1, token)
            assert progress(ours, FLIGHTS).epoch == 0
        commit_some(ours, 1, token)


def test_f11_a_full_disk_is_loud_and_leaves_nothing_half_done(state: Path, tmp_path: Path) -> None:
    with open_ledger(state, create=True) as ledger:
        deploy(ledger)
    log = tmp_path / "acknowledged"
    with committer(state, log, limit=400_000) as child:
        _, errors = child.communicate()

    assert child.returncode == 1
    assert b"LedgerUnwritable" in errors
    assert b"The transaction was left out" in errors
    assert check_whole(state, FLIGHTS, acknowledged(log)) == len(acknowledged(log)) > 0


def test_a_ledger_is_made_only_on_request(state: Path) -> None:
    with pytest.raises(LedgerMissing, match=r"ledger\.db"):
        open_ledger(state)
    assert list(state.iterdir()) == []


def test_a_ledger_is_made_whole(state: Path) -> None:
    with open_ledger(state / "new", create=True) as ledger:
        assert ledger.state() == 0
        with ledger.read() as connection:
            pragmas = ("journal_mode", "synchronous", "foreign_keys")
            found = [connection.exec_driver_sql(f"PRAGMA {each}").scalar() for each in pragmas]
    assert found == ["wal", 2, 1]
    assert [file.name for file in (state / "new").iterdir()] == ["ledger.db"]
    open_ledger(state / "new", create=True).close()


def test_two_processes_make_one_ledger(state: Path) -> None:
    program = f"""
from pathlib import Path
from schemas.ledger.connect import open_ledger
with open_ledger(Path({str(state)!r}), create=True) as ledger, ledger.write(): pass
"""
    children = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    with open_ledger(state) as ledger:
        assert ledger.state() == 3
    assert [file.name for file in state.iterdir()] == ["ledger.db"]


def test_p22_a_newer_ledger_is_refused_by_name_and_untouched(state: Path) -> None:
    with open_ledger(state, create=True) as ledger:
        newer = migrations.KNOWN + 1
        with ledger.write() as connection:
            connection.execute(insert(tables.migrations).values(number=newer))
    before = (state / "ledger.db").read_bytes()

    for create in (False, True):
        with pytest.raises(LedgerTooNew, match=f"at most migration {newer - 1}; got {newer}"):
            open_ledger(state, create=create)

    assert (state / "ledger.db").read_bytes() == before


def test_migrations_are_numbered_from_one(ledger: Ledger) -> None:
    with ledger.read() as connection:
        numbers = list(connection.scalars(select(tables.migrations.c.number)))
    assert numbers == list(range(1, migrations.KNOWN + 1))
    assert list(migrations.STEPS) == list(range(2, migrations.KNOWN + 1))


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_what_is_no_ledger_is_damage(state: Path, content: bytes) -> None:
    (state / "ledger.db").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"ledger\.db"):
        open_ledger(state)
    assert (state / "ledger.db").read_bytes() == content


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20é"
    with open_ledger(folder, create=True) as ledger:
        deploy(ledger)
    assert [file.name for file in folder.iterdir()] == ["ledger.db"]


def test_every_column_has_its_sentence() -> None:
    source = Path(tables.__file__).read_text(encoding="utf-8").splitlines()
    columns = [i for i, line in enumerate(source) if line.strip().startswith("Column(")]
    assert len(columns) == sum(len(table.columns) for table in tables.metadata.sorted_tables)
    assert all(source[i - 1].strip().startswith("# ") for i in columns)


def test_a_ledger_of_the_first_form_is_brought_to_this_one(state: Path) -> None:
    """Form 1 knew no sealing and no builds."""
    with open_ledger(state, create=True) as ledger:
        deploy(ledger)
        commit_some(ledger, 3, hold(ledger).token)
        before = rows(ledger)
        whole = columns(ledger)
    with sqlite3.connect(state / "ledger.db") as old:
        for index in ("files_of_build", "files_removed"):
            old.execute(f"DROP INDEX {index}")
        added = [
            *("view_bounds", "retentions", "replay_epochs", "replays", "losses", "moves"),
            *("publications", "proofs", "builds", "seal_requests", "sealed", "mismatches"),
        ]
        for table in added:
            old.execute(f"DROP TABLE {table}")
        for table, column in (
            *(("files", name) for name in ("removed", "version", "partials", "build")),
            *(("views", name) for name in ("wanted", "publication")),
            ("streams", "stopped"),
            ("versions", "since_epoch"),
            ("versions", "stream_version"),
            ("epochs", "observed"),
        ):
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        old.execute("DELETE FROM migrations WHERE number > 1")
    old.close()

    with open_ledger(state) as ledger:
        assert rows(ledger) == before
        assert columns(ledger) == whole
        commit_some(ledger, 1, hold(ledger).token)


def columns(ledger: Ledger) -> dict[str, set[str]]:
    with ledger.read() as connection:
        found = inspect(connection)
        return {
            table: {column["name"] for column in found.get_columns(table)}
            | {str(index["name"]) for index in found.get_indexes(table)}
            for table in found.get_table_names()
        }
