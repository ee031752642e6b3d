"""Moments at which a test may break a process on purpose.

`failpoint("epoch.in_commit")` does nothing unless the environment variable `EVERVIEW_FAILPOINTS`
names that moment when the process starts, such as

    epoch.after_commit=kill@2;task.after_segment=raise:ENOSPC

| action | does |
|---|---|
| `kill` | SIGKILL to the process itself |
| `exit:N` | leaves at once with exit code N; nothing is cleaned up |
| `raise:NAME` | raises a built-in exception, or `OSError` for a name of `errno` |
| `sleep:S` | sleeps S seconds |
| `stop` | SIGSTOP to the process itself; SIGCONT lets it go on |

`@n` acts on the n-th hit only; without it, on each. With the variable set but without
`EVERVIEW_TEST=1`, importing this module raises `FailpointInvalid`: no process starts.
"""

from __future__ import annotations

import builtins
import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from schemas.errors import FailpointInvalid

# Every moment there is. The names are stable: tests and scripts set failpoints by them.
MOMENTS: Mapping[str, str] = {
    "task.before_segment": "in a Spark task: events folded, nothing written",
    "task.after_segment": "in a Spark task: segment fsynced, result not yet returned",
    "epoch.before_commit": "in the driver: every task's result is there",
    "epoch.in_commit": "in the driver: ledger transaction open, rows inserted",
    "epoch.after_commit": "in the driver: committed, Spark does not know it yet",
    "rejects.before_commit": "in the driver: rejects folded again, their replay not committed",
    "seal.before_files": "in the driver: epochs to seal chosen, nothing written",
    "seal.after_files": "in the driver: sealed files fsynced, the ledger does not name them yet",
    "seal.after_commit": "in the driver: sealed files named, segments not yet removed",
    "rebuild.before_files": "in a build: begun, its cut is fixed, nothing written",
    "rebuild.after_files": "in a build: every file of the batch view fsynced, none named",
    "rebuild.after_proof": "in a build: proof recorded, not published",
    "rebuild.after_publish": "in a build: published, nothing cleaned up or told to others",
    "retention.before_files": "in retention: begun, its boundary is fixed, nothing written",
    "retention.after_files": "in retention: bases fsynced and proven, the ledger has none of them",
    "retention.in_commit": "in retention: ledger transaction open, bases named, the master let go",
    "retention.after_commit": "in retention: the master is let go, its files are not yet removed",
    "backup.before_name": "in a publication or a deploy: the ledger copied whole, not yet named",
    "restore.before_link": "in `everview ledger restore`: the ledger whole beside its place",
    "repair.after_file": "in `everview scrub --repair`: the new file fsynced, not yet in its place",
    "serve.noticed": "in serving: a new ledger state seen, nothing loaded",
    "serve.loaded": "in serving: loaded and checked, not swapped in",
    "serve.mid_result": "in a worker: the head and the first part of an answer sent, not the rest",
    "clean.before_forget": "in clean-up: files unlinked, the ledger has their rows still",
    "deploy.after_register": "in deploy: versions registered, nothing built",
}


@dataclass(frozen=True)
class Action:
    """What happens at a moment; `hit` counts from 1, None is every hit."""

    text: str
    run: Callable[[], None]
    hit: int | None


def failpoint(name: str) -> None:
    """Marks a moment of `MOMENTS`; almost free while nothing is set."""
    if _ACTIONS:
        _hit(name)


def parse(text: str) -> dict[str, Action]:
    """`name=action[@n]`, joined by `;`. Raises `FailpointInvalid` for what nobody understands."""
    actions = {}
    for part in filter(None, (each.strip() for each in text.split(";"))):
        name, equals, action = part.partition("=")
        if not equals or name not in MOMENTS:
            expected = f"NAME=ACTION with a name of {sorted(MOMENTS)}"
            raise FailpointInvalid(expected, part)
        actions[name] = _action(action)
    return actions


def read(environment: Mapping[str, str]) -> dict[str, Action]:
    """The failpoints that an environment sets; refused outside a test."""
    text = environment.get("EVERVIEW_FAILPOINTS", "")
    if text and environment.get("EVERVIEW_TEST") != "1":
        expected = "unset where EVERVIEW_TEST is not 1"
        raise FailpointInvalid(expected, text)
    return parse(text)


def _action(text: str) -> Action:
    what, at, hit = text.partition("@")
    kind, _, argument = what.partition(":")
    if kind not in _KINDS or (at and not (hit.isdecimal() and int(hit) > 0)):
        expected = f"ACTION or ACTION@n with an action of {sorted(_KINDS)}"
        raise FailpointInvalid(expected, text)
    try:
        run = _KINDS[kind](argument)
    except (ValueError, LookupError) as error:
        expected = f"an argument that {kind!r} understands"
        raise FailpointInvalid(expected, text) from error
    return Action(text, run, int(hit) if at else None)


def _hit(name: str) -> None:
    action = _ACTIONS.get(name)
    if action is None:
        return
    with _LOCK:
        _HITS[name] += 1
        due = action.hit in (None, _HITS[name])
    if due:
        action.run()


def _signal(number: signal.Signals, argument: str) -> Callable[[], None]:
    if argument:
        raise ValueError(argument)
    return lambda: os.kill(os.getpid(), number)


def _exit(argument: str) -> Callable[[], None]:
    code = int(argument)
    return lambda: os._exit(code)


def _sleep(argument: str) -> Callable[[], None]:
    seconds = float(argument)
    return lambda: time.sleep(seconds)


def _raise(argument: str) -> Callable[[], None]:
    make = _error(argument)

    def act() -> None:
        raise make()

    return act


def _error(name: str) -> Callable[[], Exception]:
    if name in errno.errorcode.values():
        number: int = getattr(errno, name)
        return lambda: OSError(number, os.strerror(number))
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise LookupError(name)
    return lambda: kind("raised by a failpoint")


_KINDS: Mapping[str, Callable[[str], Callable[[], None]]] = {
    "kill": lambda argument: _signal(signal.SIGKILL, argument),
    "stop": lambda argument: _signal(signal.SIGSTOP, argument),
    "exit": _exit,
    "raise": _raise,
    "sleep": _sleep,
}
_LOCK = Lock()
_HITS: Counter[str] = Counter()
_ACTIONS = read(os.environ)
