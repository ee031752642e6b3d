"""The stack's own Airflow: it runs under `everview up`, and rebuilds views while events flow.

Builds are started and looked at by Airflow's REST API. Every answer that is polled meanwhile is
compared with the oracle at the position that the answer itself reports.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from kafka import KafkaProducer
from sqlalchemy import select, update

from infra import orchestrator, ports, processes
from infra import stack as stacks
from infra.orchestrator import AirflowRefused, Orchestrator
from infra.sending import Pace
from schemas.ledger import builds, tables, versions
from schemas.ledger.connect import open_ledger
from schemas.ledger.files import BATCH
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from tests.end_to_end.running import Background, Stack, position, wait_until
from tests.oracle import Oracle

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.slow]

SEED = 5
RATE = 150.0  # events per second
POLL = 1 / 6  # seconds between two polls
AIRFLOW_WITHIN = 400.0  # it starts in 20 s where nothing else runs
RUN_WITHIN = 600.0
STOP_WITHIN = 60.0
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")

COLUMNS = (("id", "BIGINT"), ("page", "VARCHAR"), ("n", "INTEGER"), ("moment", "TIMESTAMP"))
VIEWS: Mapping[str, str] = {
    "pages": "SELECT page, count(*) AS hits, sum(n) AS total, avg(n) AS mean FROM clicks "
    "GROUP BY page",
    "latest": "SELECT count(*) AS hits, max(moment) AS newest FROM clicks",
}
PROJECT = """
CREATE STREAM clicks (
    id BIGINT NOT NULL PRIMARY KEY, page VARCHAR, n INTEGER, moment TIMESTAMP NOT NULL
) WITH (topic = 'clicks', format = 'json', event_time = 'moment');
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "project", tmp_path / "state")
    made.project.mkdir()
    views = "".join(f"CREATE VIEW {name} AS {text};\n" for name, text in VIEWS.items())
    (made.project / "clicks.sql").write_text(PROJECT + views)
    try:
        yield made
    finally:
        subprocess.run(made.everview("down"), capture_output=True, check=False)


def airflow_of(stack: Stack) -> Orchestrator:
    """The client of the stack's Airflow, once that is ready."""
    wait_until(lambda: orchestrator.of(stack.state) is not None, "Airflow", AIRFLOW_WITHIN)
    found = orchestrator.of(stack.state)
    assert found is not None
    stack.look()
    return found


def running(stack: Stack) -> stacks.Stack:
    found = stacks.read(stack.state)
    assert found is not None
    return found


def ports_of(stack: Stack) -> list[int]:
    kept: dict[str, int] = json.loads((stack.state / "run" / "ports.json").read_text())
    assert set(kept) == {"kafka", "controller", "serving", "airflow"}
    return list(kept.values())


# ---- its life


def check_doors(stack: Stack, client: Orchestrator) -> None:
    """Who has the password may in, from this machine, and no log tells it."""
    told = stack.look()
    assert told["ready"]
    assert told["airflow"]["state"] == "ready"
    assert client.url == told["airflow"]["url"]
    file = Path(told["airflow"]["password_file"])
    assert file.stat().st_mode & 0o077 == 0
    password = json.loads(file.read_text())["admin"]
    assert password not in json.dumps(told)
    assert password not in (stack.state / "logs" / "supervisor.log").read_text()
    assert password in stack.run("status")
    check_login(client, password)
    check_loopback(running(stack).id)


def check_ends(stack: Stack) -> None:
    """It ends with a stack that is killed, and with one that is stopped while it starts."""
    killed = running(stack)
    os.kill(killed.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: processes.marked(killed.id) == [], "all parts to end by themselves")

    stack.up()
    again = running(stack)
    supervisor = processes.find(again.supervisor)
    assert supervisor is not None
    supervisor.send_signal(signal.SIGINT)  # while Airflow starts
    supervisor.wait(STOP_WITHIN)

    assert processes.marked(again.id) == []
    assert all(ports.free(port) for port in ports_of(stack))


def check_login(client: Orchestrator, password: str) -> None:
    good = Orchestrator(client.url, "admin", password)
    with pytest.raises(AirflowRefused, match="status 404"):  # in, and no such run
        good.run("pages", "none")
    with pytest.raises(AirflowRefused, match="Invalid credentials"):
        Orchestrator(client.url, "admin", password + "x").run("pages", "none")


def check_loopback(mark: str) -> None:
    """Nothing of the stack listens where another machine could connect."""
    found = {
        (listens.laddr.ip, listens.laddr.port)
        for process in processes.marked(mark)
        for listens in process.net_connections()
        if listens.status == psutil.CONN_LISTEN
    }
    assert len(found) >= 4
    assert {address for address, _ in found} <= set(LOOPBACK)


# ---- what it does


@dataclass(eq=False)
class Feeder(Background):
    """Sends events until it is stopped: one in twenty of them a second time, somewhat later."""

    servers: str

    def run(self) -> None:
        chance = random.Random(SEED)
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5)
        pace, number = Pace(RATE, time.monotonic()), 0
        while not self.stopping.is_set():
            pace.wait()
            number += 1
            again = number > 100 and chance.random() < 1 / 20
            producer.send("clicks", event(number - 100 if again else number))
        producer.flush()
        producer.close()

    def stop(self) -> None:
        assert self.is_alive(), "everything so far must happen while events flow"
        self.end()


def event(number: int) -> bytes:
    """The event of an id, always the same."""
    chance = random.Random(number)
    at = datetime(2026, 1, 1) + timedelta(seconds=chance.randrange(100_000))  # noqa: DTZ001
    page = None if number % 17 == 0 else f"p{chance.randrange(9)}"
    told = {"id": number, "page": page, "n": chance.randrange(-50, 1000), "moment": at.isoformat()}
    return json.dumps(told).encode()


@dataclass(eq=False)
class Poller(Background):
    """Asks for one view after the other, and keeps every answer."""

    stack: Stack
    answers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        while not self.stopping.wait(POLL):
            for view in VIEWS:
                try:
                    self.answers.append((view, self.stack.ask(f"SELECT * FROM {view}")))
                except OSError as error:
                    self.failures.append(f"{view}: {error}")


def test_it_lives_with_the_stack_and_every_poll_is_right_while_it_rebuilds(stack: Stack) -> None:
    stack.up()
    with Feeder(stack.status["kafka"]["bootstrap_servers"]) as feeder:
        client = airflow_of(stack)
        check_doors(stack, client)
        with Poller(stack) as poller:
            rebuild_while_events_flow(stack, client)
            feeder.stop()
            ends = stack.ends("clicks")
            wait_until(
                lambda: all(position(stack.ask(f"SELECT * FROM {view}")) == ends for view in VIEWS),
                "all events",
            )
    assert poller.failures == []
    check_polls(stack, poller.answers)
    check_layers(stack)

    check_ends(stack)


def rebuild_while_events_flow(stack: Stack, client: Orchestrator) -> None:
    """A publication of each view, and of one a build that its proof refuses."""
    for view, run in [(view, client.trigger(view)) for view in VIEWS]:
        assert over(client, view, run) == dict.fromkeys(
            ("choose_cut", "rebuild", "prove", "publish", "release"), "success"
        )
    published = spoil(stack, "pages")
    run = client.trigger("pages")
    tasks = over(client, "pages", run)
    log = client.log("pages", run, "prove")

    assert client.run("pages", run).state == "failed"
    assert (tasks["prove"], tasks["publish"]) == ("failed", "upstream_failed")
    said = re.search(r"group \(page = 'p1'\), column 'hits': built (\d+), expected (\d+)", log)
    assert said is not None, log
    assert int(said[1]) == int(said[2]) + 1
    with open_ledger(stack.state) as ledger:
        assert builds.publications(ledger, "pages")[0].id == published


def over(client: Orchestrator, view: str, run: str) -> dict[str, str]:
    """The states of a run's tasks when it is over."""
    wait_until(lambda: client.run(view, run).over, f"run {run} of {view}", RUN_WITHIN, every=1.0)
    return client.tasks(view, run)


def spoil(stack: Stack, view: str) -> int:
    """Adds one to every count of the published batch view, and lets the ledger name that file: so
    what is built from it is wrong. Gives the publication."""
    with open_ledger(stack.state) as ledger:
        (row,) = (each for each in versions.views(ledger) if each.name == view)
        f = tables.files.c
        query = select(f.path).where(f.kind == BATCH, f.version == row.version)
        query = query.where(f.partials == "core", f.removed_state.is_(None)).order_by(f.id.desc())
        with ledger.read() as connection:
            name = connection.execute(query).scalars().first()
        assert name is not None
        path = DataRoot(stack.state).local(name)
        other = path.with_name("spoilt")
        duckdb.execute(
            f"COPY (SELECT * REPLACE (_count_0 + 1 AS _count_0) FROM '{path}') TO '{other}' "
            "(FORMAT parquet)"
        )
        stored = StoredFile.of(name, other.read_bytes())
        other.replace(path)
        with ledger.write() as connection:
            changed = update(tables.files).where(f.path == name)
            connection.execute(changed.values(sha256=stored.sha256, bytes=stored.bytes))
        assert row.publication is not None
        return row.publication


def check_polls(stack: Stack, answers: list[tuple[str, dict[str, Any]]]) -> None:
    """Every answer is right for what it says it covers, and that never goes back."""
    oracle = Oracle()
    columns = (*COLUMNS, ("p", "INTEGER"), ("o", "BIGINT"))
    oracle.fill(
        "all_clicks",
        columns,
        [typed(line, *place) for place, line in stack.records("clicks").items()],
    )
    expected: dict[tuple[str, tuple[tuple[int, int], ...]], list[tuple[object, ...]]] = {}
    seen: dict[str, tuple[int, dict[int, int]]] = {}
    cuts = set()
    for view, answer in answers:
        (covered,) = answer["coverage"]
        assert covered["degraded"] is None
        at = position(answer)
        cut, before = seen.get(view, (0, {}))
        assert all(at.get(p, 0) >= offset for p, offset in before.items()), (view, before, at)
        assert covered["cut"] >= cut
        seen[view] = (covered["cut"], at)
        cuts.add((view, covered["cut"]))
        key = view, tuple(sorted(at.items()))
        if key not in expected:
            expected[key] = below(oracle, view, at)
        assert Counter(map(tuple, answer["rows"])) == Counter(map(told, expected[key])), (view, at)
    assert len(answers) >= 500
    assert len(expected) >= 50, "the polls must have seen the flow, not only its end"
    seen_cuts = Counter(view for view, _ in cuts)
    assert seen_cuts == {"pages": 2, "latest": 2}, "the polls must have seen each publication"


def typed(line: str, partition: int, offset: int) -> dict[str, object]:
    row = json.loads(line)
    return {**row, "moment": datetime.fromisoformat(row["moment"]), "p": partition, "o": offset}


def below(oracle: Oracle, view: str, at: Mapping[int, int]) -> list[tuple[object, ...]]:
    """The view's own SELECT of the events below a position; a repeated one is the same event."""
    ranges = [f"(p = {partition} AND o < {until})" for partition, until in at.items()]
    names = ", ".join(name for name, _ in COLUMNS)
    below_ = " OR ".join(ranges) or "false"
    oracle.keep("clicks", f"SELECT DISTINCT {names} FROM all_clicks WHERE {below_}")
    return oracle.answer(VIEWS[view])


def told(row: tuple[object, ...]) -> tuple[object, ...]:
    """A row as JSON tells it."""
    return tuple(f"{cell.isoformat()}Z" if isinstance(cell, datetime) else cell for cell in row)


def check_layers(stack: Stack) -> None:
    """Two publications, both proven; one build refused; no gap and nothing double."""
    handoff = stack.ask("SELECT view, gaps, doubles FROM everview.handoff")["rows"]
    assert sorted(handoff) == [[view, 0, 0] for view in sorted(VIEWS)]
    published = stack.ask("SELECT view, full_build FROM everview.publications")["rows"]
    assert sorted(published) == [["latest", False], ["pages", False]]
    verdicts = stack.ask("SELECT verdict FROM everview.proofs")["rows"]
    assert Counter(verdict for (verdict,) in verdicts) == {"equal": 2, "refused": 1}
