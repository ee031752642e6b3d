"""What a running stack writes down about itself, `<state>/run/stack.json`, and its lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from infra import processes
from infra.files import locked, replace
from infra.processes import Identity
from schemas.errors import StackRunning

AIRFLOW = "airflow"
"""The part that no answer needs."""


@dataclass(frozen=True)
class PartRecord:
    """A part as its supervisor last saw it; `log` is relative to the state folder."""

    state: str
    identity: Identity | None = None
    deaths: int = 0
    exit_code: int | None = None
    ready_after: float | None = None
    note: str = ""
    log: str = ""


@dataclass(frozen=True)
class Stack:
    """A stack: its id (the mark of its processes), its supervisor, its addresses, its parts."""

    id: str
    supervisor: Identity
    project: str
    bootstrap_servers: str
    http: str
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    airflow: str | None = None  # its address, where the stack brings its own

    @property
    def running(self) -> bool:
        return processes.find(self.supervisor) is not None

    @property
    def ready(self) -> bool:
        """Everything is."""
        return bool(self.parts) and all(part.state == "ready" for part in self.parts.values())

    @property
    def answering(self) -> bool:
        """Every part that an answer needs is ready."""
        needed = [part for name, part in self.parts.items() if name != AIRFLOW]
        return bool(needed) and all(part.state == "ready" for part in needed)


def file(state: Path) -> Path:
    return state / "run" / "stack.json"


def write(state: Path, stack: Stack) -> None:
    replace(file(state), json.dumps(asdict(stack), indent=1))


def read(state: Path) -> Stack | None:
    """The stack that runs on `state`, or the last one that did; None if there never was one."""
    try:
        raw: dict[str, Any] = json.loads(file(state).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    parts = {
        name: PartRecord(**{**part, "identity": _identity(part["identity"])})
        for name, part in raw.pop("parts").items()
    }
    supervisor = Identity(**raw.pop("supervisor"))
    return Stack(**raw, supervisor=supervisor, parts=parts)


def _identity(raw: dict[str, Any] | None) -> Identity | None:
    return None if raw is None else Identity(**raw)


def only_supervisor(state: Path) -> AbstractContextManager[None]:
    """Holds the lock of a state while the block runs; StackRunning names the pid that has it."""
    return locked(state / "run" / "stack.lock", lambda pid: StackRunning(str(state), pid))


def left_over(stack: Stack) -> list[psutil.Process]:
    """Processes of a stack whose supervisor is gone: those that bear its mark, and its parts."""
    found = {process.pid: process for process in processes.marked(stack.id)}
    for part in stack.parts.values():
        process = part.identity and processes.find(part.identity)
        if process:
            found[process.pid] = process
    return list(found.values())
