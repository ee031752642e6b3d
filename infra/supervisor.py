"""Starts the parts of a stack, watches them, restarts them, and stops them all.

One thread decides (the caller's, the only one that starts processes: a part ends with the thread
that started it); others wait for a process, a probe or a preparation and put what they saw in its
queue. Every part is the leader of its own session and process group.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from infra import asking, processes
from infra.processes import Identity
from schemas.errors import EverviewError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a part that died is started again: doubled from the first to the longest."""

HEALTHY = 60.0
"""Seconds of health after which earlier deaths are forgotten."""

TOGETHER = 0.3
"""Seconds within which two signals to stop are one."""

MANY_DEATHS = 3
STOP_WITHIN = 40.0
CLEARING = 5.0
LOG_BYTES = 16 * 1024 * 1024
TAIL_LINES = 12


@dataclass(frozen=True)
class Health:
    """What a probe saw: does the part answer, does it do its work, and a word about it."""

    alive: bool
    ready: bool
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A process to keep running.

    `prepare` runs before every start, beside the other parts; `probe` takes the pid and the time;
    `grace`, `every` (between two probes) and `patience` are seconds; without one good probe for
    that long a part that was ready is killed and restarted. The first start waits until all parts
    in `after` are ready.
    """

    name: str
    command: tuple[str, ...]
    probe: Callable[[int, datetime], Health]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    every: float = 0.25
    patience: float = 60.0
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A part as it is now. States: waiting (for those it comes after), starting, ready, unhealthy,
    restarting, stopping, stopped."""

    name: str
    state: str
    identity: Identity | None
    deaths: int
    exit_code: int | None
    ready_after: float | None
    note: str
    log: Path


@dataclass(frozen=True)
class Notice:
    """A change worth a line: the part's name and a plain text (of several lines in trouble)."""

    part: str
    kind: str
    text: str


@dataclass(frozen=True)
class _News:
    kind: str  # prepared, unprepared, probed, exited, stop, kill
    part: str = ""
    run: int = 0
    health: Health | None = None
    code: int | None = None
    text: str = ""


@dataclass
class _Running:
    """What the supervisor knows of one part; `run` counts its starts."""

    part: Part
    log: Path
    state: str = "waiting"
    run: int = 0
    process: subprocess.Popen[bytes] | None = None
    identity: Identity | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    deaths: int = 0
    exit_code: int | None = None
    asked_at: float = 0.0
    ready_after: float | None = None
    ready_since: float | None = None
    good_at: float | None = None
    start_at: float | None = None
    kill_at: float | None = None
    log_from: int = 0
    note: str = ""

    def seen(self) -> Seen:
        return Seen(
            self.part.name,
            self.state,
            self.identity,
            self.deaths,
            self.exit_code,
            self.ready_after,
            self.note,
            self.log,
        )


class Supervisor:
    """Keeps `parts` running until it is told to stop; stops them in reverse order.

    `notice` is told what a person should read, `changed` every new state; both are called by the
    thread that runs `run`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        stack: str,
        logs: Path,
        folder: Path,
        notice: Callable[[Notice], None],
        changed: Callable[[Sequence[Seen]], None],
    ) -> None:
        self._parts: dict[str, _Running] = {}
        for part in parts:
            assert all(name in self._parts for name in part.after), "they stop in reverse order"
            self._parts[part.name] = _Running(part, logs / f"{part.name}.log")
        self._stack, self._folder = stack, folder
        self._notice, self._changed = notice, changed
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._stopping: list[str] | None = None  # parts still to stop, the next one last
        self._stop_by = 0.0
        self._killed = False
        logs.mkdir(parents=True, exist_ok=True)

    # ---- from outside

    def stop(self) -> None:
        """Asks for an orderly stop; asked a second time, kills at once. For any thread."""
        self._news.put(_News("stop"))

    def run(self) -> None:
        """Starts everything and returns when everything has stopped."""
        handlers = self._handle_signals()
        try:
            self._start_waiting()
            self._tell()
            while not self._done():
                self._step()
        finally:
            for running in self._parts.values():
                self._kill(running)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _handle_signals(self) -> dict[signal.Signals, Callable[..., object] | int | None]:
        if threading.current_thread() is not threading.main_thread():
            return {}

        last = -TOGETHER

        def ask(number: int, _frame: FrameType | None) -> None:
            nonlocal last
            # one key press may arrive twice: from the terminal, and handed on by a parent
            twice = time.monotonic() - last < TOGETHER
            last = time.monotonic()
            if number == signal.SIGQUIT:
                self._news.put(_News("kill"))
            elif not twice:
                self.stop()

        asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        return {number: signal.signal(number, ask) for number in asked}

    # ---- one step

    def _step(self) -> None:
        now = time.monotonic()
        times = [at for r in self._parts.values() for at in (r.start_at, r.kill_at) if at]
        try:
            news = self._news.get(timeout=max(0.0, min([*times, now + 1.0]) - now))
        except queue.Empty:
            news = None
        if news is not None:
            self._take(news)
        now = time.monotonic()
        for running in self._parts.values():
            if running.start_at is not None and running.start_at <= now:
                running.start_at = None
                self._prepare(running)
            if running.kill_at is not None and running.kill_at <= now:
                running.kill_at = None
                self._kill(running)

    def _take(self, news: _News) -> None:
        if news.kind in ("stop", "kill"):
            self._stop_all(at_once=news.kind == "kill")
            return
        running = self._parts[news.part]
        if news.run != running.run:
            return
        if news.kind == "prepared" and self._stopping is None:
            self._start(running)
        elif news.kind == "prepared":
            self._exited(running, None)
        elif news.kind == "unprepared":
            self._exited(running, None, news.text)
        elif news.kind == "probed" and news.health is not None:
            self._probed(running, news.health)
        elif news.kind == "exited":
            self._exited(running, news.code)

    def _tell(self) -> None:
        self._changed([running.seen() for running in self._parts.values()])

    # ---- starting

    def _start_waiting(self) -> None:
        """Starts the parts whose turn has come."""
        for running in self._parts.values():
            after = [self._parts[name].state for name in running.part.after]
            if running.state == "waiting" and all(state == "ready" for state in after):
                running.asked_at = time.monotonic()
                self._prepare(running)

    def _prepare(self, running: _Running) -> None:
        running.run += 1
        running.state, running.note = "starting", ""
        part, run = running.part, running.run

        def prepare() -> None:
            try:
                if part.prepare is not None:
                    part.prepare()
            except (EverviewError, OSError, subprocess.SubprocessError) as error:
                self._news.put(_News("unprepared", part.name, run, text=str(error)))
            else:
                self._news.put(_News("prepared", part.name, run))

        threading.Thread(target=prepare, name=f"prepare {part.name}", daemon=True).start()

    def _start(self, running: _Running) -> None:
        part = running.part
        mark = f"{self._stack}/{part.name}"
        launch = (sys.executable, "-P", "-m", "infra.launch", str(os.getpid()), *part.command)
        with _open_log(running.log) as log:
            log.write(f"--- start {running.run} of {part.name}\n".encode())
            log.flush()
            running.log_from = log.tell()
            running.process = subprocess.Popen(
                launch,
                cwd=self._folder,
                env={**_inherited(), **part.environment, processes.MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running.identity = processes.identity(running.process.pid)
        running.ended = threading.Event()
        running.good_at, running.ready_since = time.monotonic(), None
        watch = (running.process, running.ended, part, running.run, mark)
        threading.Thread(target=self._wait, args=watch, name=part.name, daemon=True).start()
        probe = (running.process.pid, running.ended, part, running.run)
        threading.Thread(target=self._probe, args=probe, daemon=True).start()
        self._tell()

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        ended: threading.Event,
        part: Part,
        run: int,
        mark: str,
    ) -> None:
        code = process.wait()
        ended.set()
        processes.end(processes.marked(mark), CLEARING)
        self._news.put(_News("exited", part.name, run, code=code))

    def _probe(self, pid: int, ended: threading.Event, part: Part, run: int) -> None:
        last: Health | None = None
        told = 0.0
        while not ended.wait(part.every):
            health = part.probe(pid, datetime.now(UTC))
            if health != last or time.monotonic() - told > 1.0:
                last, told = health, time.monotonic()
                self._news.put(_News("probed", part.name, run, health=health))

    # ---- health

    def _probed(self, running: _Running, health: Health) -> None:
        if self._stopping is not None or running.state == "restarting":
            return
        now = time.monotonic()
        before = (running.state, running.note)
        running.note = health.note
        if health.alive:
            running.good_at = now
        if health.ready:
            running.ready_since = running.ready_since or now
            if running.state != "ready":
                self._became_ready(running, now)
            if now - running.ready_since >= HEALTHY:
                running.deaths = 0
        else:
            running.ready_since = None
            if running.state == "ready":
                running.state = "unhealthy"
                text = f"{running.part.name} is not well: {health.note or 'no answer'}"
                self._notice(Notice(running.part.name, "unhealthy", text))
            patience = running.part.patience
            hanging = now - (running.good_at or now) >= patience
            if running.state == "unhealthy" and hanging:
                text = f"{running.part.name} has not answered for {patience:.0f} s; it is restarted"
                self._notice(Notice(running.part.name, "hanging", text))
                self._kill(running)
        if before != (running.state, running.note):
            self._tell()

    def _became_ready(self, running: _Running, now: float) -> None:
        name = running.part.name
        again = running.state == "unhealthy"
        running.state = "ready"
        text = f"{name} is well again"
        if not again:
            running.ready_after = now - running.asked_at
            text = f"{name} is ready after {running.ready_after:.1f} s"
        self._notice(Notice(name, "ready", text))
        self._start_waiting()

    # ---- the end of a part

    def _exited(self, running: _Running, code: int | None, why: str = "") -> None:
        name, now = running.part.name, time.monotonic()
        running.ended.set()
        running.process, running.identity, running.kill_at = None, None, None
        running.exit_code = code
        if self._stopping is not None:
            running.state = "stopped"
            self._notice(Notice(name, "stopped", f"{name} has stopped"))
            self._stop_next()
        else:
            if running.ready_since is not None and now - running.ready_since >= HEALTHY:
                running.deaths = 0
            running.deaths += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (running.deaths - 1))
            running.state, running.start_at = "restarting", now + pause
            running.asked_at = running.start_at
            running.note = why or describe_exit(code)
            text = f"{name} {running.note}; it starts again in {pause:.0f} s"
            if running.deaths == MANY_DEATHS:
                text = self._trouble(running, pause)
            self._notice(Notice(name, "died", text))
        self._tell()

    def _trouble(self, running: _Running, pause: float) -> str:
        lines = tail(running.log, running.log_from, TAIL_LINES)
        said = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
        return (
            f"{running.part.name} keeps dying: {running.deaths} times in a row, and the last time "
            f"it {running.note}. Its last lines:\n{said}\n"
            f"    The whole log: {running.log}\n"
            f"    It is tried again in {pause:.0f} s, then every {LONGEST_PAUSE:.0f} s at most."
        )

    # ---- stopping

    def _stop_all(self, at_once: bool) -> None:
        asked_again = self._stopping is not None
        if at_once or asked_again:
            self._killed = True
            for running in self._parts.values():
                self._kill(running)
        if not asked_again:
            self._stop_by = time.monotonic() + STOP_WITHIN
            self._stopping = list(self._parts)
            text = "killing" if at_once else "stopping; once more kills at once"
            self._notice(Notice("", "stopping", text))
            self._stop_next()

    def _stop_next(self) -> None:
        """Stops the last part that still runs, once those after it have ended."""
        while self._stopping:
            running = self._parts[self._stopping[-1]]
            if running.state == "stopping":
                return
            if running.state == "stopped":
                self._stopping.pop()
                continue
            if running.process is None:  # being prepared, or waiting to start
                running.start_at, running.state = None, "stopped"
                running.run += 1
                continue
            running.state = "stopping"
            grace = self._grace(running)
            _signal_group(running.process, running.part.stop_signal)
            running.kill_at = time.monotonic() + grace
            if self._killed:
                self._kill(running)
            self._tell()
            return

    def _grace(self, running: _Running) -> float:
        """Its own grace, shortened so that every part before it gets its share of STOP_WITHIN."""
        names = list(self._parts)
        before = names[: names.index(running.part.name)]
        left = self._stop_by - time.monotonic() - 1.0
        wanted = running.part.grace + sum(self._parts[name].part.grace for name in before)
        return max(0.5, running.part.grace * min(1.0, left / wanted))

    def _kill(self, running: _Running) -> None:
        if running.process is not None:
            _signal_group(running.process, signal.SIGKILL)
            if self._killed:
                marked = processes.marked(f"{self._stack}/{running.part.name}")
                processes.send(marked, signal.SIGKILL)  # not waited for here: `_wait` reaps

    def _done(self) -> bool:
        stopped = all(running.state == "stopped" for running in self._parts.values())
        return self._stopping is not None and stopped


def _inherited() -> dict[str, str]:
    """What parts take over; none of them asks in somebody's name."""
    return {name: value for name, value in os.environ.items() if name != asking.TOKEN}


def describe_exit(code: int | None) -> str:
    if code is None:
        return "could not be started"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def tail(log: Path, start: int, lines: int) -> list[str]:
    """The last `lines` lines of a log, of what was written from byte `start` on."""
    if not log.exists():
        return []
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(start, size - 64 * 1024))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the whole group of a part; while its leader is not reaped, the number is its own."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return


def _open_log(log: Path) -> BinaryIO:
    """Opens a part's log to append; one that has grown big is put aside first."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")
