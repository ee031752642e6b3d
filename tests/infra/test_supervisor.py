"""The supervisor with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import psutil
import pytest

from infra import asking, processes, supervisor
from infra.supervisor import Health, Notice, Part, Seen, Supervisor

WAIT = 30.0

SLEEPS = "import signal, time; print('up', flush=True); time.sleep(600)"
HAS_CHILDREN = (
    "import subprocess, sys, time\n"
    "for options in ({}, {'start_new_session': True}):\n"
    "    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], **options)\n"
    "time.sleep(600)"
)
IGNORES_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def well(_pid: int, _now: datetime) -> Health:
    return Health(alive=True, ready=True)


class Watched:
    """A supervisor in a thread of its own, with what it told."""

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.id = uuid.uuid4().hex
        self.notices: list[Notice] = []
        self.seen: dict[str, Seen] = {}
        self.news = threading.Condition()
        self.supervisor = Supervisor(
            parts,
            stack=self.id,
            logs=folder / "logs",
            folder=folder,
            notice=self._notice,
            changed=self._changed,
        )
        self.thread = threading.Thread(target=self.supervisor.run)
        self.thread.start()

    def _notice(self, notice: Notice) -> None:
        with self.news:
            self.notices.append(notice)
            self.news.notify_all()

    def _changed(self, seen: Sequence[Seen]) -> None:
        with self.news:
            self.seen = {part.name: part for part in seen}
            self.news.notify_all()

    def until(self, true: Callable[[], bool]) -> None:
        with self.news:
            assert self.news.wait_for(true, WAIT), (self.seen, self.notices)

    def state(self, name: str) -> str:
        return self.seen[name].state if name in self.seen else ""

    def pid(self, name: str) -> int:
        identity = self.seen[name].identity
        assert identity is not None
        return identity.pid

    def texts(self, kind: str) -> list[str]:
        return [notice.text for notice in self.notices if notice.kind == kind]


Start = Callable[..., Watched]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Watched] = []

    def make(*parts: Part) -> Watched:
        started.append(Watched(tmp_path, parts))
        return started[-1]

    yield make
    for watched in started:
        if watched.thread.is_alive():
            watched.supervisor.stop()
            watched.supervisor.stop()
        watched.thread.join(WAIT)
        assert not watched.thread.is_alive()
        assert processes.marked(watched.id) == []


def test_parts_become_ready_and_stop_in_reverse_order(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(asking.TOKEN, "of whoever started the stack")
    names = ("kafka", "streaming", "serving")
    stack = start(*(Part(name, python(SLEEPS), well) for name in names))
    stack.until(lambda: all(stack.state(name) == "ready" for name in names))
    assert all(part.ready_after is not None for part in stack.seen.values())
    inherited = psutil.Process(stack.pid("serving")).environ()
    assert "PATH" in inherited
    assert asking.TOKEN not in inherited

    stack.supervisor.stop()
    stack.thread.join(WAIT)

    stopped = [notice.part for notice in stack.notices if notice.kind == "stopped"]
    assert stopped == ["serving", "streaming", "kafka"]
    assert {part.exit_code for part in stack.seen.values()} == {-signal.SIGTERM}


def test_a_part_that_comes_after_others_waits_until_all_of_them_are_ready(start: Start) -> None:
    good: set[str] = set()

    def probe(name: str) -> Callable[[int, datetime], Health]:
        return lambda _pid, _now: Health(alive=True, ready=name in good)

    stack = start(
        *(Part(name, python(SLEEPS), probe(name), every=0.02) for name in ("kafka", "serving")),
        Part("airflow", python(SLEEPS), well, after=("kafka", "serving")),
    )
    good.add("kafka")
    stack.until(lambda: stack.state("kafka") == "ready")
    assert (stack.state("airflow"), stack.seen["airflow"].identity) == ("waiting", None)

    good.add("serving")
    stack.until(lambda: stack.state("airflow") == "ready")

    first = stack.pid("airflow")
    good.clear()
    stack.until(lambda: stack.state("kafka") == stack.state("serving") == "unhealthy")
    os.kill(first, signal.SIGKILL)  # started again without waiting
    stack.until(lambda: stack.state("airflow") == "ready" and stack.pid("airflow") != first)


def test_a_part_that_still_waits_is_stopped_without_ever_starting(start: Start) -> None:
    def never(_pid: int, _now: datetime) -> Health:
        return Health(alive=True, ready=False)

    stack = start(
        Part("kafka", python(SLEEPS), never),
        Part("airflow", python(SLEEPS), well, after=("kafka",)),
    )
    stack.until(lambda: stack.state("kafka") == "starting" and "kafka" in stack.seen)

    stack.supervisor.stop()
    stack.thread.join(WAIT)

    assert stack.state("airflow") == "stopped"
    assert not (stack.seen["airflow"].log).exists()


def test_a_part_leads_its_own_session(start: Start) -> None:
    stack = start(Part("serving", python(SLEEPS), well))
    stack.until(lambda: stack.state("serving") == "ready")

    pid = stack.pid("serving")

    assert os.getsid(pid) == os.getpgid(pid) == pid


def test_a_killed_part_is_started_again_and_leaves_nothing(start: Start) -> None:
    stack = start(Part("streaming", python(HAS_CHILDREN), well))
    stack.until(lambda: stack.state("streaming") == "ready")
    first = stack.pid("streaming")
    while len(processes.marked(stack.id)) < 3:
        time.sleep(0.01)
    family = processes.marked(stack.id)

    os.kill(first, signal.SIGKILL)
    stack.until(lambda: stack.state("streaming") == "ready" and stack.pid("streaming") != first)

    assert not any(process.is_running() for process in family)
    assert stack.texts("died") == ["streaming was ended by SIGKILL; it starts again in 1 s"]
    assert stack.seen["streaming"].deaths == 1


def test_a_part_that_keeps_dying_is_explained(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.1)
    stack = start(Part("kafka", python("print('no disk'); raise SystemExit(3)"), well))
    stack.until(lambda: len(stack.texts("died")) >= 5)

    text = stack.texts("died")[2]

    assert "kafka keeps dying: 3 times in a row" in text
    assert "exit code 3" in text
    assert "    no disk\n" in text
    assert str(tmp_path / "logs" / "kafka.log") in text
    assert sum("keeps dying" in line for line in stack.texts("died")) == 1


def test_pauses_double_up_to_the_longest(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.04)
    stack = start(Part("kafka", python("raise SystemExit(1)"), well))
    moments: list[float] = []

    def deaths() -> bool:
        while len(moments) < len(stack.texts("died")):
            moments.append(time.monotonic())
        return len(moments) >= 5

    stack.until(deaths)

    assert stack.seen["kafka"].deaths >= 4
    assert all("exit code 1" in text for text in stack.texts("died"))


def test_health_forgets_earlier_deaths(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "HEALTHY", 0.3)
    stack = start(Part("kafka", python(SLEEPS), well))

    def ready_after(deaths: int) -> bool:
        return len(stack.texts("died")) == deaths and stack.state("kafka") == "ready"

    for deaths in range(4):
        stack.until(partial(ready_after, deaths))
        time.sleep(0.4)  # longer than HEALTHY: what is measured here is time itself
        os.kill(stack.pid("kafka"), signal.SIGKILL)
    stack.until(partial(ready_after, 4))

    assert not any("keeps dying" in text for text in stack.texts("died"))


def test_a_part_that_hangs_is_restarted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    deaf: set[int] = set()

    def probe(pid: int, _now: datetime) -> Health:
        return Health(alive=pid not in deaf, ready=pid not in deaf)

    stack = start(Part("serving", python(SLEEPS), probe, every=0.02, patience=0.2))
    stack.until(lambda: stack.state("serving") == "ready")
    first = stack.pid("serving")
    deaf.add(first)

    stack.until(lambda: stack.state("serving") == "ready" and stack.pid("serving") != first)

    assert stack.texts("hanging") == ["serving has not answered for 0 s; it is restarted"]


def test_one_that_ignores_the_signal_is_killed_after_its_grace(start: Start) -> None:
    stack = start(Part("streaming", python(IGNORES_TERM), well, grace=0.3))
    stack.until(lambda: stack.state("streaming") == "ready")

    stack.supervisor.stop()
    stack.thread.join(WAIT)

    assert stack.seen["streaming"].exit_code == -signal.SIGKILL


def test_a_second_stop_kills_at_once(start: Start) -> None:
    names = ("kafka", "streaming")
    stack = start(*(Part(name, python(IGNORES_TERM), well, grace=600) for name in names))
    stack.until(lambda: all(stack.state(name) == "ready" for name in names))

    begun = time.monotonic()
    stack.supervisor.stop()
    stack.supervisor.stop()
    stack.thread.join(WAIT)

    assert time.monotonic() - begun < 5
    assert {part.exit_code for part in stack.seen.values()} == {-signal.SIGKILL}


def test_a_preparation_that_fails_counts_as_a_death(start: Start) -> None:
    def prepare() -> None:
        message = "no jars"
        raise OSError(message)

    stack = start(Part("kafka", python(SLEEPS), well, prepare=prepare))
    stack.until(lambda: stack.state("kafka") == "restarting")

    assert stack.texts("died") == ["kafka no jars; it starts again in 1 s"]


SUPERVISES = """
import sys
from pathlib import Path
from infra.supervisor import Health, Part, Supervisor
folder = Path(sys.argv[1])
part = Part("kafka", (sys.executable, "-c", "import time; time.sleep(600)"),
            lambda pid, now: Health(True, True))
Supervisor([part], stack=sys.argv[2], logs=folder, folder=folder,
           notice=lambda notice: print(notice.text, flush=True), changed=lambda seen: None).run()
"""


def supervise(folder: Path, mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SUPERVISES, str(folder), mark]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    assert "ready" in child.stdout.readline()
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a signal")
def test_parts_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    with supervise(tmp_path, mark) as child:
        parts = processes.marked(mark)
        child.kill()

        _, left = psutil.wait_procs(parts, timeout=WAIT)

    assert len(parts) == 1
    assert left == []


def test_ctrl_c_stops_and_ends_with_zero(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    with supervise(tmp_path, mark) as child:
        child.send_signal(signal.SIGINT)

        out, _ = child.communicate(timeout=WAIT)

    assert "kafka has stopped" in out
    assert child.returncode == 0
    assert processes.marked(mark) == []
