"""The guards that the rows have teeth for: how to take each out, and the row that then fails.

A guard is taken out by a patch of one function, for this process and for those of the row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch import build, plan, proof, publish
from schemas import engine, storage
from schemas.compile import cast, parse
from schemas.engine import Engine, Folded
from schemas.ledger import builds, connect, contents, epochs, files, leases, sealing, versions
from schemas.position import Position, Range
from schemas.storage import DataRoot, fsync_folder
from schemas.stored_file import StoredFile
from streaming import epoch, flow, orphans, source, task
from streaming.epoch import EpochWriter
from streaming.task import FoldTask
from tests.matrix import world

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Guard:
    """`what` is a phrase for people; `row` goes red without it."""

    what: str
    row: str
    remove: Callable[[Patch], None]


GUARDS: dict[str, Guard] = {}


def guards(name: str, row: str, what: str) -> Callable[[Callable[[Patch], None]], object]:
    """Registers what takes a guard out."""

    def keep(remove: Callable[[Patch], None]) -> object:
        assert name not in GUARDS
        GUARDS[name] = Guard(what, row, remove)
        return remove

    return keep


def nothing(*_: Any, **__: Any) -> None:
    """In a check's place."""


# leases


@guards("token", "F10", "the token of the lease, compared inside the transaction that commits")
def _(patch: Patch) -> None:
    patch.setattr(leases, "check", nothing)


@guards("lease", "F9", "a lease that somebody holds is not taken")
def _(patch: Patch) -> None:
    _take_whatever(patch)


@guards("lease of builds", "F27", "a lease that somebody holds is not taken, by a build either")
def _(patch: Patch) -> None:
    _take_whatever(patch)


def _take_whatever(patch: Patch) -> None:
    take = leases.take

    def rudely(ledger: Any, name: str, *given: Any, **named: Any) -> Any:
        with ledger.write() as connection:
            connection.exec_driver_sql("UPDATE leases SET host = NULL WHERE name = ?", (name,))
        return take(ledger, name, *given, **named)

    patch.setattr(leases, "take", rudely)


# the epoch's commit


@guards("whole transaction", "F3", "an epoch's rows become true all at once, or not at all")
def _(patch: Patch) -> None:
    write = epochs._write

    def in_parts(connection: Any, *given: Any) -> None:
        write(connection, *given)
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    patch.setattr(epochs, "_write", in_parts)


@guards("contiguous ranges", "F3", "a range begins where the ledger's position ends")
def _(patch: Patch) -> None:
    patch.setattr(source, "starts", _from_what_is_there)

    def anywhere(self: Position, ranges: Any) -> Position:
        return Position(dict(self.offsets) | {each.partition: each.until for each in ranges})

    patch.setattr(Position, "advance", anywhere)


@guards("offsets that are gone", "F15", "offsets that are gone before they were read stop a stream")
def _(patch: Patch) -> None:
    starts = source.starts

    def careless(stream: Any, position: Any, partitions: Any, first: Any, *_: Any) -> Any:
        lost = [Range(each, 0, first[each]) for each in partitions]
        return starts(stream, position, partitions, first, lost)

    patch.setattr(source, "starts", careless)


@guards("positions of the ledger", "F3", "a driver that starts goes on from the ledger's position")
def _(patch: Patch) -> None:
    patch.setattr(source, "starts", _from_what_is_there)


def _from_what_is_there(_s: Any, _p: Any, partitions: Any, first: Any, *_: Any) -> dict[int, int]:
    return {each: first[each] for each in partitions}


@guards("new partitions", "F17", "a partition that came later is read from its first offset")
def _(patch: Patch) -> None:
    starts = source.starts

    def late(stream: Any, position: Position, partitions: Any, *more: Any) -> dict[int, int]:
        found = starts(stream, position, partitions, *more)
        known = position.offsets
        return {each: at if each in known or not known else 3 for each, at in found.items()}

    patch.setattr(source, "starts", late)


@guards("fresh checkpoint", "F7", "each query has a checkpoint of its own")
def _(patch: Patch) -> None:
    def one(scratch: Path, stream: str, _token: int) -> Path:
        made = scratch.absolute() / "checkpoint" / stream / "always"
        made.mkdir(parents=True, exist_ok=True)
        return made

    patch.setattr(flow, "fresh_checkpoint", one)


@guards("offsets in ranges", "F8", "what tasks saw lies in the epoch's ranges")
def _(patch: Patch) -> None:
    patch.setattr(epoch, "check_offsets", nothing)


@guards("topic while running", "F16", "the topic is the one that the query began with")
def _(patch: Patch) -> None:
    patch.setattr(EpochWriter, "check_topic", nothing)


@guards("topic at the start", "F16", "the topic is the one whose events were counted")
def _(patch: Patch) -> None:
    patch.setattr(versions, "set_topic", nothing)
    patch.setattr(versions, "same_topic", nothing)


@guards("registered versions", "F41", "an epoch carries the versions that are registered")
def _(patch: Patch) -> None:
    patch.setattr(epochs, "_must_carry_registered", nothing)


@guards("tried again", "F4", "a micro-batch that fails ends its query, not the stream")
def _(patch: Patch) -> None:
    patch.setattr(flow, "PASSING", (ConnectionError,))


@guards("broker's absence", "F20", "a broker that is away is waited for")
def _(patch: Patch) -> None:
    patch.setattr(flow, "UNREACHABLE", (ZeroDivisionError,))


@guards("busy ledger", "F13", "a ledger that is busy is said by name")
def _(patch: Patch) -> None:
    patch.setattr(connect, "_rename", nothing)


@guards("ledger on request", "F14", "a ledger is made only on request")
def _(patch: Patch) -> None:
    from tests.matrix import micro_batch

    opened = connect.open_ledger
    patch.setattr(micro_batch, "open_ledger", lambda state: opened(state, create=True))


@guards("asked to stop", "F5", "no epoch begins once the driver is asked to stop")
def _(patch: Patch) -> None:
    class Deaf:
        def is_set(self) -> bool:
            return False

    begin = EpochWriter.begin

    def heedless(self: EpochWriter, *given: Any, **named: Any) -> None:
        self.stopping = Deaf()  # type: ignore[assignment]
        begin(self, *given, **named)

    patch.setattr(EpochWriter, "begin", heedless)


@guards("limit of an epoch", "F21", "an epoch has no more offsets than its setting says")
def _(patch: Patch) -> None:
    options = source.read

    def unlimited(session: Any, settings: Any, topic: Any, offsets: Any, _most: int) -> Any:
        return options(session, settings, topic, offsets, 1_000_000)

    patch.setattr(source, "read", unlimited)


# event ids


@guards("ids of epochs", "F46", "a worker knows the ids of committed epochs")
def _(patch: Patch) -> None:
    def knows_none(_task: Any, own: Engine, name: str) -> None:
        own._ids_table(_task.stream)
        own._ids[name] = _task.epoch - 1

    patch.setattr(FoldTask, "_add_ids", knows_none)


@guards("ids of sealed epochs", "F46", "the ids of sealed epochs are looked up in their files")
def _(patch: Patch) -> None:
    know = Engine._know_ids
    patch.setattr(Engine, "_know_ids", lambda self, stream, _sealed: know(self, stream, ()))


@guards("ids of committed epochs only", "F2", "an epoch that was not committed leaves no ids")
def _(patch: Patch) -> None:
    fold = Engine.fold

    def kept(self: Engine, stream: Any, *given: Any, **named: Any) -> Folded:
        folded = fold(self, stream, *given, **named)
        if folded.ids is not None:
            known = self.ids_epoch(stream.name)
            self.add_ids(stream, known, [folded.ids])
        return folded

    patch.setattr(Engine, "fold", kept)


@guards("bound of ids", "F46", "an id counts again after `dedup_within`")
def _(patch: Patch) -> None:
    fold = Engine.fold

    def for_ever(self: Engine, *given: Any, since: datetime, **named: Any) -> Folded:
        return fold(self, *given, since=since - timedelta(days=999), **named)

    patch.setattr(Engine, "fold", for_ever)
    patch.setattr(epoch, "counted_ids", lambda *given: sealing.counted_ids(*given[:3]))


# files


@guards("sha256", "F25", "a file is read only as it was written")
def _(patch: Patch) -> None:
    patch.setattr(DataRoot, "get", lambda self, file: self.local(file.path).read_bytes())
    patch.setattr(DataRoot, "check", lambda self, file: self.local(file.path))


@guards("hidden name", "F11", "a file is written beside its place, under a name that nobody reads")
def _(patch: Patch) -> None:
    def in_place(self: DataRoot, folder: str, name: str, writer: Any) -> StoredFile:
        final = self.local(f"{folder}/{name}")
        self._make(final.parent)
        writer(final)
        return storage._measured(f"{folder}/{name}", final)

    patch.setattr(DataRoot, "write", in_place)


@guards("fsync of files", "F6", "a file is fsynced before its name is seen")
def _(patch: Patch) -> None:
    _write_without(patch, file=True)


@guards("fsync of folders", "F6", "the folder is fsynced before the ledger names the file")
def _(patch: Patch) -> None:
    _write_without(patch, file=False)


def _write_without(patch: Patch, *, file: bool) -> None:
    def lazy(self: DataRoot, folder: str, name: str, writer: Any) -> StoredFile:
        final = self.local(f"{folder}/{name}")
        self._make(final.parent)
        hidden = final.with_name(f".{name}.part")
        writer(hidden)
        if not file:
            with hidden.open("rb") as written:
                os.fsync(written.fileno())
        stored = storage._measured(f"{folder}/{name}", hidden)
        self._link(hidden, final, stored)
        hidden.unlink()
        if file:
            fsync_folder(final.parent)
        return stored

    patch.setattr(DataRoot, "write", lazy)


@guards("failed fsync", "F12", "a file of which an fsync failed counts as not written")
def _(patch: Patch) -> None:
    fsync = os.fsync

    class Forgiving:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def fsync(self, descriptor: int) -> None:
            try:
                self.__dict__.get("fsync_of", fsync)(descriptor)
            except OSError:
                return

        def __setattr__(self, name: str, value: Any) -> None:
            self.__dict__["fsync_of" if name == "fsync" else name] = value

        def __delattr__(self, name: str) -> None:
            self.__dict__.pop("fsync_of" if name == "fsync" else name)

    patch.setattr(storage, "os", Forgiving())


@guards("rule of tokens", "F1", "a file under the current token may be on its way: it is no orphan")
def _(patch: Patch) -> None:
    patch.setattr(orphans, "token_of", lambda _name: -1)


@guards("orphans", "F22", "what older drivers left is removed")
def _(patch: Patch) -> None:
    patch.setattr(world, "remove_orphans", nothing)


@guards("only what is named", "F24", "files that the ledger does not name are not touched")
def _(patch: Patch) -> None:
    def all_of_it(folders: Any, *_: Any) -> list[str]:
        for folder in folders:
            for each in folder.iterdir() if folder.is_dir() else ():
                if each.is_file():
                    each.unlink()
        return []

    patch.setattr(orphans, "remove_unnamed", all_of_it)


@guards("grace of files", "F23", "files that stopped counting stay for a while")
def _(patch: Patch) -> None:
    from streaming import sealer

    removable = files.removable

    def at_once(ledger: Any, stream: str, before: datetime) -> list[str]:
        return removable(ledger, stream, before + timedelta(days=1))

    patch.setattr(sealer, "removable", at_once)


@guards("files of builds", "F30", "files that a build at work may read stay")
def _(patch: Patch) -> None:
    from streaming import sealer

    def whatever(ledger: Any, *_: Any) -> list[str]:
        with ledger.read() as connection:
            rows = connection.exec_driver_sql("SELECT path FROM files WHERE removed IS NOT NULL")
            return [str(path) for (path,) in rows]

    patch.setattr(sealer, "removable", whatever)


# sealing and serving


@guards("sealing whole", "F22", "segments go and sealed files come in one transaction")
def _(patch: Patch) -> None:
    def torn(connection: Any, *given: Any, **named: Any) -> None:
        add(connection, *given, **named)
        connection.exec_driver_sql("DELETE FROM files WHERE kind = 'run' AND partials = 'core'")

    add = files.add
    patch.setattr("schemas.ledger.sealing.files.add", torn)


@guards("snapshot again", "F23", "what was sealed under a reader is read where it is now")
def _(patch: Patch) -> None:
    from serving.follower import follow

    patch.setattr(follow, "sealed_until", lambda *_: 0)
    patch.setattr(follow, "SNAPSHOTS", 1)
    patch.setattr(follow, "RETRY_SECONDS", 1e9)


@guards("gap between layers", "F35", "serving takes no view of which runs are missing")
def _(patch: Patch) -> None:
    view = contents._view

    def later(*given: Any) -> Any:
        return replace(view(*given), runs=(), gap=None)

    patch.setattr(contents, "_view", later)


# builds


@guards("proof", "F28", "a build is compared before it is published")
def _(patch: Patch) -> None:
    prove = proof.prove

    def lenient(*given: Any, **named: Any) -> Any:
        return replace(prove(*given, **named), verdict="equal", differences=())

    patch.setattr(proof, "prove", lenient)


@guards(
    "token of builds",
    "F29",
    "a build publishes only under the token and over the base of its begin",
)
def _(patch: Patch) -> None:
    _publish_whatever(patch)


def _publish_whatever(patch: Patch) -> None:
    view = builds._view

    def resume(
        ledger: Any, build_id: int, holder: Any, now: datetime, ttl: Any, _alive: Any
    ) -> Any:
        found = builds.build(ledger, build_id)
        return leases.Lease(builds.build_lease(found.view), holder, found.token, now + ttl)

    class AsItBegan:
        """A row of `views` whose publication is the one that the build began with."""

        def __init__(self, row: Any, served: Any) -> None:
            self._row, self.publication = row, served

        def __getattr__(self, name: str) -> Any:
            return getattr(self._row, name)

    def as_it_began(connection: Any, name: str) -> Any:
        proven = "SELECT served FROM builds WHERE view = ? AND state IN ('equal', 'abandoned')"
        (served,) = connection.exec_driver_sql(proven + " ORDER BY id", (name,)).first() or (None,)
        return AsItBegan(view(connection, name), served)

    publish_build = builds.publish

    def publish_anyhow(*given: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(builds, "_view", as_it_began)
            return publish_build(*given)

    patch.setattr(builds, "resume", resume)
    patch.setattr(builds, "_step", lambda at, build_id, *_: builds._build(at, build_id))
    patch.setattr(builds, "publish", publish_anyhow)
    patch.setattr(builds, "park", nothing)


@guards("cut never goes back", "F29", "a build does not go back behind the served cut")
def _(patch: Patch) -> None:
    publication = builds._publication
    patch.setattr(
        builds, "_publication", lambda *given: replace(publication(*given), cut=0, version="")
    )


@guards("rollback's token", "F31", "a rollback ends the builds at work")
def _(patch: Patch) -> None:
    _publish_whatever(patch)


@guards("buckets once", "F32", "a bucket that two tasks merged is refused")
def _(patch: Patch) -> None:
    patch.setattr(build, "_must_be_whole", nothing)


@guards("leftovers of builds", "F26", "what builds that are over wrote is removed")
def _(patch: Patch) -> None:
    patch.setattr(plan, "remove_leftovers", nothing)


@guards("current.json", "F26", "`current.json` names the served publication")
def _(patch: Patch) -> None:
    patch.setattr(publish, "write_current", nothing)


# values


@guards("time zone", "F40", "every engine is set to UTC")
def _(patch: Patch) -> None:
    connected = engine.connect

    def local(**options: Any) -> Engine:
        made = connected(**options)
        made.execute(f"SET GLOBAL TimeZone = '{os.environ.get('TZ', 'UTC')}'")
        return made

    patch.setattr(task, "connect", local)


@guards("exact integers", "E16", "an integer is what was written")
def _(patch: Patch) -> None:
    patch.setattr(cast, "_unbent", lambda _text, value: value)


@guards("exact decimals", "E18", "a DECIMAL is what was written")
def _(patch: Patch) -> None:
    patch.setattr(
        cast, "of_json_number", lambda kind, _name, text, *_: f"TRY_CAST({text} AS {kind})"
    )


@guards("zones of times", "E24", "a time with a zone is converted, not cut")
def _(patch: Patch) -> None:
    patch.setattr(cast, "_timestamp", lambda text: f"TRY_CAST({text} AS TIMESTAMP)")


@guards("words behind times", "E22", "a time is all of what was written")
def _(patch: Patch) -> None:
    patch.setattr(cast, "_matches", lambda *_: "true")


@guards("repeated keys", "E4", "a key that stands twice is refused")
def _(patch: Patch) -> None:
    patch.setattr(parse, "_repeated", lambda *_: "false")


@guards("missing columns", "E9", "a column that must be there is")
def _(patch: Patch) -> None:
    reasons = parse._reasons

    def lenient(stream: Any, carried: Any, record: Any) -> Any:
        may_lack = {each.name: replace(each, not_null=False) for each in stream.columns.columns}
        columns = replace(stream.columns, columns=tuple(may_lack.values()))
        return reasons(
            replace(stream, columns=columns), [may_lack[c.name] for c in carried], record
        )

    patch.setattr(parse, "_reasons", lenient)


@guards("checks", "E17", "a CHECK that is false rejects")
def _(patch: Patch) -> None:
    patch.setattr(parse, "_of_check", lambda *_: [])


@guards("a view's own failure", "E19", "a view that fails is suspended alone")
def _(patch: Patch) -> None:
    patch.setattr(engine, "OWN_FAULTS", ())
