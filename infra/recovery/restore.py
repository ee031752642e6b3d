"""A ledger that is lost or damaged, made again: the newest copy of it, and the files themselves.

    newest copy that opens, else the project's definitions
      -> every file of the stream's epochs, hashed anew -> the epochs that they hold, without a hole
      -> publications whose files are whole -> runs and lists of ids that lack, from the master
      -> whole beside its place, then linked to it: a restore that was killed left nothing

What follows the last epoch that is proven by whole files is read from Kafka again, as the ledger's
position decides where streaming goes on. Files of later epochs are moved aside, not deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from batch import publish
from infra import stack
from infra.damage import refold
from infra.damage.offsets import Covered
from infra.damage.target import Target
from infra.recovery import cover, readmitted
from infra.recovery import found as finding
from infra.recovery.cover import Part, Placed
from infra.recovery.found import Found
from schemas import registered
from schemas.errors import (
    DamagedFile,
    DefinitionError,
    EverviewError,
    LedgerTooNew,
    RestoreRefused,
    VersionOfAnotherRelease,
)
from schemas.failpoints import failpoint
from schemas.ledger import (
    adopted,
    builds,
    copies,
    leases,
    repairs,
    retention,
    tables,
    versions,
)
from schemas.ledger.adopted import AdoptedEpoch, AdoptedRange
from schemas.ledger.connect import NAME, Ledger, keep_wal, open_ledger
from schemas.ledger.epochs import EpochCommit, SegmentFile
from schemas.ledger.files import BASE, IDS, MASTER, REJECTS, RUN, SEGMENT, DataFile
from schemas.ledger.process import is_running
from schemas.ledger.repairs import Held, Span
from schemas.ledger.versions import ViewRow
from schemas.parquet import Origin
from schemas.position import Position, Range
from schemas.project import Project
from schemas.storage import DataRoot, fsync_folder
from schemas.stored_file import StoredFile
from streaming.orphans import token_of

ASIDE = ".ledger-"
LEFT = "left"  # folder of the state for files of epochs that were not adopted
BESIDE = ("", "-wal", "-shm")  # of SQLite's files


@dataclass
class Restored:
    """What a restore came to; `left` are files of later epochs, and the offsets in them."""

    source: str
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    left: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return asdict(self)


def restore(
    state: Path, project: Callable[[], Project], now: datetime, say: Callable[[str], None]
) -> Restored:
    """Make the ledger of a state again. Raises `RestoreRefused` where a healthy one is there or
    somebody may still write, and what the project raises where there is no copy to begin with."""
    with stack.only_supervisor(state):
        _refuse_healthy(state)
        _refuse_running(state)
        for left in state.glob(f"{ASIDE}*"):  # of one that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=ASIDE, dir=state) as folder:
            aside = Path(folder)
            copy = _begin(state, aside, now, project, say)
            told = Restored(copy or "the project, as there is no copy of the ledger,")
            _refuse_held(aside, now)
            with open_ledger(aside) as ledger:
                work = _Work(ledger, DataRoot(state), told, say, copied=copy is not None)
                work.streams()
                work.replays(now)
                work.views(now)
                work.current()
            work.put_aside(now)
            _link(state, aside, now)
    return told


def _refuse_healthy(state: Path) -> None:
    if not (state / NAME).exists():
        return
    try:
        with open_ledger(state) as ledger, ledger.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            return
    except LedgerTooNew:
        raise
    except (EverviewError, SQLAlchemyError, sqlite3.Error):
        return
    message = f"ledger to restore must be lost or damaged; got a healthy one: {state / NAME}"
    raise RestoreRefused(message)


def _refuse_running(state: Path) -> None:
    last = stack.read(state)
    running = [] if last is None else stack.left_over(last)
    if last is not None and (last.running or running):
        message = f"nothing may run on {state} meanwhile; stop it with `everview down`"
        raise RestoreRefused(message)
    try:
        told = json.loads((state / "run" / "streaming.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    if told["state"] not in ("stopped", "failed") and psutil.pid_exists(told["pid"]):
        message = f"nothing may stream to {state} meanwhile; process {told['pid']} does. Stop it"
        raise RestoreRefused(message)


def _refuse_held(aside: Path, now: datetime) -> None:
    """A lease of the copy whose holder lives: it may write to files still."""
    with open_ledger(aside) as ledger:
        for each in leases.leases(ledger):
            here = each.holder.host == os.uname().nodename
            if is_running(each.holder) if here else each.expires > now:
                who = f"process {each.holder.pid} on {each.holder.host}"
                message = f"lease {each.name!r} must be nobody's; {who} holds it. Stop that first"
                raise RestoreRefused(message)


def _begin(
    state: Path,
    aside: Path,
    now: datetime,
    project: Callable[[], Project],
    say: Callable[[str], None],
) -> str | None:
    """Leave a ledger in `aside`: the newest copy that opens, and its name; else an empty one that
    knows the project."""
    for each in copies.backups(state):
        target = aside / NAME
        target.write_bytes(each.read_bytes())
        try:
            with closing(sqlite3.connect(target)) as connection:
                ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
            if found == "ok":
                keep_wal(target)
                open_ledger(aside).close()
                return f"{copies.BACKUPS}/{each.name}"
        except LedgerTooNew:
            raise
        except (EverviewError, SQLAlchemyError, sqlite3.Error) as error:
            found = str(error)
        say(f"{copies.BACKUPS}/{each.name} is left out: {found}")
        for ending in BESIDE:
            target.with_name(f"{NAME}{ending}").unlink(missing_ok=True)
    if any(state.glob("base/*/*/*/*/*.parquet")):
        message = (
            "no copy of the ledger is there, and retention has removed events whose totals are in "
            f"{state / 'base'} alone; put a copy into {state / copies.BACKUPS}, or restore a backup"
        )
        raise RestoreRefused(message)
    with open_ledger(aside, create=True) as ledger:
        versions.register(ledger, *registered.rows(project(), DataRoot(state)), now)
    return None


class _Work:
    """One ledger, brought up to the files."""

    def __init__(
        self,
        ledger: Ledger,
        root: DataRoot,
        told: Restored,
        say: Callable[[str], None],
        *,
        copied: bool,  # whether there was a copy: only then runs that are missing are made anew
    ) -> None:
        self.ledger, self.root, self.told, self.say = ledger, root, told, say
        self.copied = copied
        self.later: list[str] = []
        self.whole = [build for build in self._published() if self._is_whole(build)]

    def streams(self) -> None:
        for row in versions.streams(self.ledger):
            self._stream(row.name)

    def replays(self, now: datetime) -> None:
        """Which adopted epochs hold rejects that were re-admitted."""
        for name, told in self.told.streams.items():
            copied = min(told["epoch_of_the_copy"], told["epoch"])
            try:
                found = readmitted.record(self.ledger, self.root, name, copied, now)
            except DamagedFile as error:
                self.told.notes.append(
                    f"stream {name}: rejects that were re-admitted since the copy are not known: "
                    f"{error}. Do not replay its rejects before `everview scrub --repair`"
                )
                continue
            if found:
                self.told.notes.append(f"stream {name}: {found} rejects were re-admitted already")

    def views(self, now: datetime) -> None:
        """Batch views, then what has no batch view and misses epochs."""
        self.told.views = adopted.settle(self.ledger, self.whole, self._last_build(), now)
        for row in versions.views(self.ledger):
            last = self.told.streams[row.stream]["epoch"]
            if row.being_built(last) and row.suspended_epoch is None:
                self.told.views[row.name] = (
                    f"run `everview rebuild {row.name}`: epochs before lack it"
                )
            self.told.views.setdefault(row.name, "it answers from the runs and segments")

    def current(self) -> None:
        """`current.json` of each view names what is served again."""
        for row in versions.views(self.ledger):
            publish.write_current(self.ledger, self.root, row.name)

    def put_aside(self, now: datetime) -> None:
        """Move files of later epochs out of the way of streaming, which will write others."""
        folder = f"{LEFT}/{now.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
        for path in self.later:
            target = self.root.local(f"{folder}/{path}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self.root.local(path).rename(target)
        if self.later:
            self.told.notes.append(f"{len(self.later)} files of later epochs are in {folder}")

    # ---- a stream

    def _stream(self, stream: str) -> None:
        held = [each for each in repairs.counting(self.ledger) if each.stream == stream]
        known = {each.data.file.path: each.data for each in held}
        before = repairs.spans(self.ledger, stream)
        retained = retention.retained_until(self.ledger, stream)
        found = [
            each
            for each in finding.files(self.root, stream, known, self.say)
            if each.data.kind not in (MASTER, REJECTS) or each.data.last > retained
        ]
        by_path = {each.path: each for each in found}
        parts = [_known(each, held, by_path) for each in before if each.sealed]
        epochs = [_known(each, held, by_path) for each in before if not each.sealed]
        start = before[0].first - 1 if before else 0
        chosen = self._registered(stream, cover.sealed(found, parts, start))
        position = chosen[-1].position if chosen else Position()
        last = chosen[-1].part.last if chosen else start
        instant = chosen[-1].part.origin.instant if chosen else ""
        late = cover.unsealed(found, last, position, instant, epochs)
        late = self._registered(stream, late)
        token = max((each.token for each in found), default=0)
        ranges, made = self._ranges(stream, chosen, late, retained)
        adopted.adopt(self.ledger, stream, ranges, [_epoch(stream, each) for each in late], token)
        under = repairs.token(self.ledger, stream)
        for data, placed in made:
            self._make(stream, data, placed, under)
        end = late[-1] if late else chosen[-1] if chosen else None
        self._tell(stream, end, last, len(late), found, before)
        for path in (path for each in (*chosen, *late) for path in each.part.damaged):
            self.told.notes.append(f"{path} is damaged or missing: run `everview scrub --repair`")

    def _registered(self, stream: str, placed: Sequence[Placed]) -> list[Placed]:
        """As far as declarations are known, and with the versions that are."""
        sv, v = tables.stream_versions.c, tables.versions.c
        with self.ledger.read() as connection:
            declared = set(connection.scalars(select(sv.id).where(sv.stream == stream)))
            known = set(connection.scalars(select(v.id).where(v.stream == stream)))
        found = []
        for each in placed:
            if each.part.origin.stream_version not in declared:
                epochs = f"{each.part.first}..{each.part.last}"
                self.say(f"epochs {epochs} were accepted by a declaration that is not registered")
                break
            found.append(Placed(cover.with_known(each.part, known), each.position))
        return found

    def _ranges(
        self, stream: str, chosen: Sequence[Placed], late: Sequence[Placed], retained: int
    ) -> tuple[list[AdoptedRange], list[tuple[DataFile, Placed]]]:
        """What to adopt, and what has to be made anew for it: runs that answers need, and lists
        of ids where some are missing that still make duplicates. Of epochs up to `retained` nothing
        can be made: a version whose batch view is not whole is built again, from its base."""
        cuts = self._cuts(stream, {each.part.last for each in chosen})
        live = {row.version: row for row in versions.folding(self.ledger, stream)}
        newest = (late or chosen)[-1].part.origin.instant if late or chosen else ""
        ranges, made = [], []
        for each in chosen:
            part = each.part
            files = [f for f in part.files if f.data.kind not in (RUN, IDS)]
            ids = part.of(IDS)
            counted = part.origin.accepted - part.origin.duplicates
            detail = part.last > retained
            if detail and self._lacks_ids(
                stream, part, newest, counted - sum(f.data.rows for f in ids)
            ):
                made.append((_to_make(IDS, part, counted), each))
            else:
                files += ids
            folded = []
            for version in part.origin.folded:
                runs = [f for f in part.of(RUN) if f.data.version == version]
                wanted = self._tables(stream, live[version]) if version in live else None
                there = {str(f.data.table) for f in runs}
                if wanted is not None and there >= wanted:
                    files += [f for f in runs if f.data.table in wanted]
                    folded.append(version)
                elif wanted is not None and part.last <= cuts.get(version, 0):
                    folded.append(version)  # the batch view has these epochs
                elif wanted is not None and self.copied and detail:
                    made += [(_to_make(RUN, part, 0, version, t), each) for t in sorted(wanted)]
                    folded.append(version)
            origin = Origin(**{**asdict(part.origin), "folded": tuple(sorted(folded))})
            listed = tuple((f.data, f.token) for f in files)
            ranges.append(
                AdoptedRange(part.first, part.last, origin, part.ranges, each.position, listed)
            )
        return ranges, made

    def _lacks_ids(self, stream: str, part: Part, newest: str, missing: int) -> bool:
        row = repairs.stream_as(self.ledger, stream, part.origin.stream_version)
        declared = registered.declaration(row)
        if not declared.columns.key or missing <= 0:
            return False
        age = datetime.fromisoformat(newest) - datetime.fromisoformat(part.origin.instant)
        return age < declared.dedup_within

    def _tables(self, stream: str, row: ViewRow) -> set[str] | None:
        """The partial tables of a version; None where this release does not know it."""
        (declared,) = (each for each in versions.streams(self.ledger) if each.name == stream)
        try:
            return {table.name for table in registered.compiled(declared, row).tables}
        except (VersionOfAnotherRelease, DefinitionError) as error:
            self.say(f"view {row.name!r}: {error}")
            return None

    def _cuts(self, stream: str, boundaries: set[int]) -> dict[str, int]:
        """Version -> the oldest cut that a publication of it may go back to."""
        p = tables.publications.c
        query = select(p.version, p.cut).where(p.stream == stream, p.id.in_(self.whole))
        found: dict[str, int] = {}
        with self.ledger.read() as connection:
            for row in connection.execute(query):
                if row.cut in boundaries:
                    found[row.version] = min(found.get(row.version, row.cut), row.cut)
        return found

    def _make(self, stream: str, data: DataFile, placed: Placed, under: int) -> None:
        part = placed.part
        span = next(s for s in repairs.spans(self.ledger, stream) if s.last == part.last)
        held = Held(stream, data, data.kind == IDS, None)
        covered = Covered(part.ranges, True)
        target = Target(self.ledger, self.root, held, span, covered, span.origin, under)
        made = refold.run(target) if data.kind == RUN else refold.ids(target)
        adopted.add_files(self.ledger, stream, under, [made])
        self.told.notes.append(f"{made.file.path} was made from the master")

    def _tell(
        self,
        stream: str,
        end: Placed | None,
        sealed: int,
        unsealed: int,
        found: Sequence[Found],
        before: Sequence[Span],
    ) -> None:
        epoch = end.part.last if end is not None else 0
        position = end.position if end is not None else Position()
        self.told.streams[stream] = {
            "epoch": epoch,
            "sealed": sealed,
            "unsealed": unsealed,
            "position": position.json(),
            "epoch_of_the_copy": before[-1].last if before else 0,
        }
        for each in found:
            if each.data.last > epoch:
                self.later.append(each.path)
                told = [[r.partition, r.start, r.until] for r in each.ranges]
                self.told.left.append({"path": each.path, "stream": stream, "offsets": told})

    # ---- publications

    def _published(self) -> list[int]:
        p = tables.publications.c
        with self.ledger.read() as connection:
            return list(connection.scalars(select(p.id).where(p.dropped.is_(None))))

    def _is_whole(self, build: int) -> bool:
        for each in builds.build_files(self.ledger, build):
            try:
                self.root.check(each.file)
            except (DamagedFile, OSError) as error:
                self.say(f"publication {build} is left out: {error}")
                return False
        return True

    def _last_build(self) -> int:
        """The largest number of a build that left a folder."""
        top = self.root.local("batch").parent
        folders = [*(top / "batch").glob("*/*/*"), *(top / "views").glob("*/*")]
        return max((int(f.name) for f in folders if f.name.isdigit()), default=0)


def _known(span: Span, held: Sequence[Held], found: dict[str, Found]) -> Part:
    """What an older ledger has as one, with the files that are not there as they were."""
    files, damaged = [], []
    for each in held:
        data = each.data
        path = data.file.path
        inside = span.first <= data.first and data.last <= span.last and each.build is None
        inside = inside and data.kind != BASE
        if not inside or (data.kind == SEGMENT) == span.sealed:
            continue
        if path not in found and data.kind in (RUN, IDS):
            continue  # it is made from the master, if it is needed still
        if path not in found:
            damaged.append(path)
            token = token_of(path.rpartition("/")[2]) or 0
            files.append(Found(data, token, (), has_ids=each.has_ids))
        else:
            files.append(found[path])
    return Part(span.first, span.last, span.origin, span.ranges, tuple(files), tuple(damaged))


def _to_make(
    kind: str, part: Part, rows: int, version: str | None = None, table: str | None = None
) -> DataFile:
    nowhere = StoredFile(f"{kind} of epochs {part.first} to {part.last}", "", 0)
    return DataFile(kind, nowhere, part.first, part.last, rows, version=version, table=table)


def _epoch(stream: str, placed: Placed) -> AdoptedEpoch:
    part, origin = placed.part, placed.part.origin
    commit = EpochCommit(
        stream=stream,
        epoch=part.first,
        instant=refold.moment(origin.instant),
        token=max((each.token for each in part.files), default=0),
        stream_version=origin.stream_version,
        topic_id=origin.topic_id,
        ranges=part.ranges,
        segments=tuple(
            SegmentFile(
                each.data.file,
                each.data.rows,
                each.data.accepted,
                each.data.duplicates,
                each.data.rejected,
                each.has_ids,
            )
            for each in part.files
        ),
        folded=origin.folded,
        suspended=(),
        uuid=uuid.uuid4().hex,
    )
    return AdoptedEpoch(commit, placed.position)


def _link(state: Path, aside: Path, now: datetime) -> None:
    """The ledger at its name, last; one that is damaged is kept under another."""
    file = aside / NAME
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    failpoint("restore.before_link")
    stamp = f"damaged-{now.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
    for ending in BESIDE:
        old = state / f"{NAME}{ending}"
        if old.exists():  # a log of another ledger must never meet this one
            old.rename(state / f"{NAME}.{stamp}{ending}")
    try:
        os.link(file, state / NAME)
    except FileExistsError as error:
        message = f"somebody made a ledger at {state / NAME} meanwhile; nothing was restored"
        raise RestoreRefused(message) from error
    fsync_folder(state)


def ranges_told(told: Sequence[Sequence[int]]) -> str:
    """Offsets as words."""
    sized = [Range(*each) for each in told]
    listed = [f"{e.partition}: {e.start}..{e.until - 1}" for e in sized if e.size]
    return ", ".join(listed) or "none"
