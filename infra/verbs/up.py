"""Start Kafka, streaming, serving and Airflow under one supervisor, and keep them running.

On an empty state the project is registered first. Airflow starts when queries can be answered.
Ctrl-C stops everything (once more: at once); what the state folder holds survives. With --detach
the stack runs on, `everview down` stops it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infra import dags, deployment, jars, ports, processes, settings, stack
from infra.java import java_lack
from infra.parts import airflow, kafka, serving, streaming
from infra.processes import Identity
from infra.settings import Settings
from infra.stack import PartRecord, Stack
from infra.supervisor import Notice, Part, Seen, Supervisor, tail
from infra.verbs import deploy
from schemas import project
from schemas.errors import BadUse, BrokerUnreachable, DefinitionError
from schemas.project import Project

FIRST_ANSWER = 10.0
"""Seconds that a broker which is not ours may take to answer at all."""

TELL_EVERY = 3.0
DETACHED = "EVERVIEW_DETACHED"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="return when queries can be answered")
    parser.add_argument("--no-airflow", action="store_true", help="leave Airflow out")
    help_ = "register the project where it differs from what is registered"
    parser.add_argument("--deploy", action="store_true", help=help_)


def run(found: argparse.Namespace) -> int:
    start = detached if found.detach else attached
    return start(found.project, found.state, found.deploy, not found.no_airflow)


def attached(folder: Path, state: Path, register: bool, with_airflow: bool) -> int:
    """Runs the stack in this process until it is asked to stop."""
    chosen = settings.load(folder, os.environ)
    lack = java_lack()
    if lack is not None:
        raise BadUse(lack)
    with stack.only_supervisor(state):
        clear(state)
        prepare(folder, state, register, chosen)
        jars.ensure(_progress())
        _Run(folder, state, chosen, with_airflow and has_airflow(chosen)).run()
    return 0


def clear(state: Path) -> None:
    """Ends what a stack left whose supervisor was killed."""
    last = stack.read(state)
    left = [] if last is None else stack.left_over(last)
    if left:
        say(f"ending {len(left)} processes that the stack before left behind")
        processes.end(left, grace=10.0)


def has_airflow(chosen: Settings) -> bool:
    """Whether the stack is to bring its Airflow, and can; says why not where it cannot."""
    lack = airflow.lack() if chosen.airflow.own else None
    if lack is not None:
        say(f"Airflow is left out: {lack}")
    return chosen.airflow.own and lack is None


def prepare(folder: Path, state: Path, register: bool, chosen: Settings) -> None:
    """Registers the project on an empty state; later only says how it differs. Tells Airflow."""
    loaded = registered(folder, state, register, chosen)
    dags.write(state, folder, chosen, loaded)


def registered(folder: Path, state: Path, register: bool, chosen: Settings) -> Project | None:
    """The project, once it is registered or compared with what is; None if it has problems."""
    known = deployment.registered_streams(state)
    try:
        loaded = project.load(folder)
    except DefinitionError as error:
        if not known or register:
            raise
        say(f"the project has problems; what is registered goes on:\n{error}")
        return None
    dags.check(chosen, loaded)
    if not known or register:
        plan = deployment.deploy(loaded, state, datetime.now(UTC))
        for change in plan.changes:
            say(f"registered {change}" if change in plan.registers else str(change))
        return loaded
    plan = deployment.plan(loaded, state)
    if plan.changes:
        say("the project differs from what is registered:")
        deploy.show(plan)
        say("what is registered goes on; `everview deploy` registers the project")
    return loaded


class _Run:
    """One life of a stack."""

    def __init__(self, folder: Path, state: Path, chosen: Settings, with_airflow: bool) -> None:
        self.folder, self.state = folder, state
        self.id = uuid.uuid4().hex
        own = processes.identity(os.getpid())
        assert own is not None
        self.identity: Identity = own
        wanted = {"serving": chosen.serving.port}
        if chosen.kafka.own:
            wanted |= {"kafka": chosen.kafka.port, "controller": 0}
        if with_airflow:
            wanted |= {"airflow": chosen.airflow.port}
        open_ = ports.choose(state / "run" / "ports.json", wanted)
        self.servers = chosen.kafka.bootstrap_servers or f"127.0.0.1:{open_['kafka']}"
        host = chosen.serving.near
        self.http = f"http://{f'[{host}]' if ':' in host else host}:{open_['serving']}"
        self.airflow = f"http://127.0.0.1:{open_['airflow']}" if with_airflow else None
        parts: list[Part] = []
        if chosen.kafka.own:
            broker = kafka.part(state, open_["kafka"], open_["controller"], chosen.kafka.heap)
            parts.append(broker)
        else:
            _must_answer(self.servers)
        parts.append(
            streaming.part(
                state,
                self.servers,
                master=chosen.streaming.master,
                memory=chosen.streaming.driver_memory,
                max_events=chosen.streaming.max_events_per_epoch,
                create_topics=chosen.kafka.own or chosen.kafka.create_topics,
                seal_every=chosen.streaming.seal_every,
                seal_bytes=chosen.streaming.seal_bytes,
                keep_removed=chosen.streaming.keep_removed,
                retain=chosen.retention.ages,
            )
        )
        tokens = folder / chosen.serving.tokens if chosen.serving.tokens else None
        parts.append(serving.part(state, chosen.serving, open_["serving"], tokens))
        if with_airflow:
            parts.append(
                airflow.part(
                    state,
                    open_["airflow"],
                    dags=dags.FOLDER,
                    file=state / dags.FILE,
                    master=chosen.batch.master,
                )
            )
        self.supervisor = Supervisor(
            parts,
            stack=self.id,
            logs=state / "logs",
            folder=state,
            notice=self._notice,
            changed=self._changed,
        )
        self.begun = time.monotonic()
        self.told_answering = self.told_airflow = False

    def run(self) -> None:
        say(f"starting on {self.state}; logs in {self.state / 'logs'}")
        self.supervisor.run()
        say("everything has stopped; the state stays")

    def _notice(self, notice: Notice) -> None:
        say(notice.text)

    def _changed(self, seen: Sequence[Seen]) -> None:
        parts = {
            part.name: PartRecord(
                part.state,
                part.identity,
                part.deaths,
                part.exit_code,
                part.ready_after,
                part.note,
                part.log.relative_to(self.state).as_posix(),
            )
            for part in seen
        }
        told = Stack(
            self.id, self.identity, str(self.folder), self.servers, self.http, parts, self.airflow
        )
        stack.write(self.state, told)
        if told.answering and not self.told_answering:
            self.told_answering = True
            what = "everything is ready" if told.airflow is None else "queries can be answered"
            say(f"{what} after {time.monotonic() - self.begun:.1f} s")
            show(told)
            if told.airflow is not None:
                say("Airflow is starting")
            if DETACHED not in os.environ:
                say("Ctrl-C stops everything")
        if told.airflow is not None and told.ready and not self.told_airflow:
            self.told_airflow = True
            say(f"everything is ready after {time.monotonic() - self.begun:.1f} s")
            print(f"    Airflow  {told.airflow}  {login(self.state)}", flush=True)


def show(running: Stack) -> None:
    """The addresses of a stack."""
    print(f"    queries  {running.http}/sql", flush=True)
    print(f"    Kafka    {running.bootstrap_servers}", flush=True)


def login(state: Path) -> str:
    """How to log in to Airflow. Where a log file listens, the password is not told."""
    if DETACHED in os.environ:
        return f"user {airflow.USER}, password in {airflow.password_file(state)}"
    return f"user {airflow.USER}, password {airflow.password(state)}"


def say(text: str) -> None:
    """A line with the time of day (UTC)."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def _progress() -> jars.Report:
    """Says what is fetched, if anything has to be, every few seconds."""
    last = 0.0

    def report(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_EVERY:
            last = time.monotonic()
            say(f"fetching jars: {text}")

    return report


def _must_answer(servers: str) -> None:
    """Of a broker that is not ours: BrokerUnreachable, unless one of the addresses answers."""
    addresses = [address.strip().rpartition(":") for address in servers.split(",")]
    within = FIRST_ANSWER / len(addresses)
    reasons = []
    for host, _, port in addresses:
        reason = kafka.why_silent(host.strip("[]"), int(port), within)
        if reason is None:
            return
        reasons.append(f"{host}:{port}: {reason}")
    raise BrokerUnreachable(servers, "; ".join(reasons))


# ---- detached


def detached(folder: Path, state: Path, register: bool, with_airflow: bool) -> int:
    """Runs the stack in a process of its own; returns once it answers, or has ended."""
    log = state / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "infra", "up"]
    command += ["--project", str(folder), "--state", str(state)]
    command += ["--deploy"] if register else []
    command += [] if with_airflow else ["--no-airflow"]
    with log.open("ab") as file:
        start = file.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, DETACHED: "1", "PYTHONUNBUFFERED": "1"},
        )
    try:
        return _followed(child, log, start, state)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def _followed(child: subprocess.Popen[bytes], log: Path, start: int, state: Path) -> int:
    """Shows what a detached stack says until it answers or has ended."""
    shown = 0
    while True:
        try:
            code: int | None = child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            code = None
        lines = tail(log, start, 1000)
        for line in lines[shown:]:
            print(line, file=sys.stdout if code is None else sys.stderr, flush=True)
        shown = len(lines)
        if code is not None:
            return code or 1
        running = stack.read(state)
        if running and running.supervisor.pid == child.pid and running.answering:
            print(f"it runs as process {child.pid}; `everview down` stops it")
            if not running.ready:
                print("`everview status` tells where Airflow is when it is ready")
            return 0
