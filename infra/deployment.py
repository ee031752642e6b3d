"""How a project differs from what is registered, and what of that may be registered now."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from schemas import registered
from schemas.errors import DeployRefused, LedgerMissing
from schemas.failpoints import failpoint
from schemas.language.stream import Stream
from schemas.ledger import epochs, versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.copies import back_up
from schemas.ledger.versions import StreamRow
from schemas.project import Project
from schemas.storage import DataRoot


@dataclass(frozen=True)
class Change:
    """One definition that differs. `refused`: why it cannot be registered yet, '' if it can;
    `needs`: what is left to do once it is."""

    kind: str  # stream, view
    name: str
    what: str  # new, changed, not in the project
    refused: str = ""
    needs: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.what}"


@dataclass(frozen=True)
class Plan:
    """All that differs; `empty` where nothing was ever registered."""

    changes: tuple[Change, ...]
    empty: bool
    epochs: Mapping[str, int] = field(default_factory=dict)  # the last of each registered stream

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.refused)

    @property
    def registers(self) -> tuple[Change, ...]:
        """What registering would change: a definition that went from the project stays."""
        return tuple(change for change in self.changes if change.what != "not in the project")


def plan(project: Project, state: Path) -> Plan:
    """Compares a project with the ledger of a state, which need not exist. Changes nothing."""
    try:
        ledger = open_ledger(state)
    except LedgerMissing:
        return Plan(_differences(project, {}, {}, {}), empty=True)
    with ledger:
        streams = {row.name: row for row in versions.streams(ledger)}
        views = {row.name: row.wanted or row.version for row in versions.views(ledger)}
        last = {name: epochs.progress(ledger, name).epoch for name in streams}
    return Plan(_differences(project, streams, views, last), not streams, last)


def say(text: str) -> None:
    """Trouble that keeps nothing from being done."""
    sys.stderr.write(f"{text}\n")


def deploy(project: Project, state: Path, now: datetime) -> Plan:
    """Registers a project, all of it or nothing, and keeps a copy of the ledger; gives what it
    changed.

    Raises DeployRefused, and EpochsMoved where a stream that had no epoch when it was looked at
    has some now.
    """
    found = plan(project, state)
    if found.refused:
        raise DeployRefused([f"{change}: {change.refused}" for change in found.refused])
    if found.registers:
        rows = registered.rows(project, DataRoot(state))
        with open_ledger(state, create=True) as ledger:
            versions.register(ledger, *rows, now, found.epochs)
        failpoint("deploy.after_register")
        back_up(state, say)
    return found


def registered_streams(state: Path) -> list[versions.StreamRow]:
    """The streams of a state; none where there is no ledger."""
    try:
        ledger: Ledger = open_ledger(state)
    except LedgerMissing:
        return []
    with ledger:
        return versions.streams(ledger)


def _differences(
    project: Project,
    streams: dict[str, StreamRow],
    views: dict[str, str],
    last: dict[str, int],
) -> tuple[Change, ...]:
    changes = []
    own_streams = {stream.name: stream.version for stream in project.streams()}
    own_views = project.views()
    redeclared = set()
    for name, version in own_streams.items():
        if name not in streams:
            changes.append(Change("stream", name, "new", _other_case(name, streams)))
        elif streams[name].version != version:
            redeclared.add(name)
            declared, epoch = project.definitions.streams[name.lower()], last.get(name, 0)
            refused = _must_stay(streams[name], declared, epoch)
            changes.append(Change("stream", name, "changed", refused, _accepts(name, epoch)))
    for view in own_views:
        needs = _built_aside(view.name, last.get(view.stream, 0), answers=view.name in views)
        if needs and view.stream in redeclared:
            needs += ". It reads the events of earlier epochs anew, by the new declaration"
        if view.name not in views:
            changes.append(Change("view", view.name, "new", _other_case(view.name, views), needs))
        elif views[view.name] != view.version:
            changes.append(Change("view", view.name, "changed", needs=needs))
    there = {name.lower() for name in [*own_streams, *(view.name for view in own_views)]}
    gone = [("stream", name) for name in streams if name.lower() not in there]
    gone += [("view", name) for name in views if name.lower() not in there]
    changes += [Change(kind, name, "not in the project") for kind, name in gone]
    return tuple(changes)


def _other_case(name: str, registered: Iterable[str]) -> str:
    for each in registered:
        if each.lower() == name.lower():
            return f"it is registered as {each!r}, which is the same name. Write it so"
    return ""


def _must_stay(row: StreamRow, declared: Stream, epoch: int) -> str:
    """Why a stream with epochs cannot be declared so; empty where it can."""
    if epoch == 0:
        return ""
    known = registered.declaration(row)
    if known.topic != declared.topic:
        kept = f"of topic {known.topic!r}, and its topic"
    elif _key(known) != _key(declared):
        key = ", ".join(known.columns.key) or "none"
        kept = f"counted once per event id, and its primary key ({key}), as it is declared,"
    else:
        return ""
    return (
        f"stream {row.name!r} has {epoch} epochs already, {kept} must stay. "
        "Use a new stream or a new state (--state), or take that part of the change back"
    )


def _key(stream: Stream) -> list[object]:
    """The primary key as it is declared."""
    named = [stream.columns.named(name) for name in stream.columns.key]
    return [(each.name, each.type, each.generated) for each in named if each is not None]


def _accepts(stream: str, epoch: int) -> str:
    if epoch == 0:
        return ""
    return (
        f"it accepts events from epoch {epoch + 1} on; what was accepted before stays. "
        f"`everview rejects {stream} --replay` tries rejects again"
    )


def _built_aside(view: str, epoch: int, *, answers: bool) -> str:
    if epoch == 0:
        return ""
    until = "the version before it answers" if answers else "it does not answer"
    return f"`everview rebuild {view}` builds its history of {epoch} epochs; until then {until}"
