"""What retention of the master does: fold what is to go into bases, prove them, let it go.

    base(version, before) + fold of master (before, epoch]  ->  base(version, epoch)
    base(version, epoch)  + fold of master (epoch, cut]     ==  the partials of its publication
    one transaction: bases named, the master up to `epoch` and the old bases let go

        base/<view>/<version>/<epoch>/<table>/<token>-<uuid>.parquet     sorted by keys

It works under a lease of the stream, in this process: DuckDB bounds its memory and spills. What is
not proven to the last partial is not removed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from batch import compare, publish, stages
from batch.compare import Comparison
from batch.compiled import Compiled
from batch.holding import kept
from batch.plan import remove_empty
from batch.proof import line
from batch.settings import Settings
from batch.stages import PIECE, Job
from schemas import registered
from schemas.compile import CompiledStream, CompiledView, PartialTable, sql
from schemas.engine import Engine, hash_probe
from schemas.errors import RetentionRefused, StaleToken
from schemas.failpoints import failpoint
from schemas.ledger import leases, retention, versions
from schemas.ledger.connect import Ledger
from schemas.ledger.copies import back_up
from schemas.ledger.declared import Declared
from schemas.ledger.declared import declared as declared_epochs
from schemas.ledger.files import BASE, DataFile, named
from schemas.ledger.leases import Lease
from schemas.ledger.process import is_running, this_process
from schemas.ledger.retention import FAILED, REFUSED, KeptVersion, Plan
from schemas.parquet import Description
from schemas.storage import DataRoot


@dataclass(frozen=True)
class Retained:
    """What was let go, in numbers; nothing where the plan is empty."""

    plan: Plan
    partials: int  # of all bases, compared with what is published
    seconds: float

    def json(self) -> dict[str, Any]:
        return {
            **plan_json(self.plan),
            "retained": not self.plan.empty,
            "partials": self.partials,
            "seconds": round(self.seconds, 1),
        }

    @property
    def words(self) -> str:
        """In one line."""
        plan = self.plan
        if plan.empty:
            return words(plan)
        return (
            f"stream {plan.stream}: {plan.events:,} events and {plan.rejects:,} rejects of epochs "
            f"up to {plan.epoch} are removed; {self.partials:,} partials equal what is published, "
            f"in {self.seconds:.1f} s"
        )


def words(plan: Plan) -> str:
    """What would be removed, in one line, and a line for each thing that keeps more from it."""
    if plan.wanted == plan.before:
        return f"stream {plan.stream}: nothing is older than it is to be kept"
    told = f"stream {plan.stream}: nothing can be removed"
    if not plan.empty:
        told = (
            f"stream {plan.stream}: {plan.events:,} events and {plan.rejects:,} rejects of epochs "
            f"{plan.before + 1}..{plan.epoch} ({plan.removed_bytes:,} bytes) can be removed"
        )
    if plan.epoch < plan.wanted:
        told += f"; of those old enough, up to epoch {plan.wanted}, more are needed by:"
    return "\n    ".join([told, *(f"{each.what}: after {each.epoch}" for each in plan.holds)])


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain values."""
    return {
        "stream": plan.stream,
        "before": plan.before,
        "epoch": plan.epoch,
        "wanted": plan.wanted,
        "events": 0 if plan.empty else plan.events,
        "rejects": 0 if plan.empty else plan.rejects,
        "files": 0 if plan.empty else plan.removed_files,
        "bytes": 0 if plan.empty else plan.removed_bytes,
        "versions": [[each.view, each.version] for each in plan.versions],
        "holds": [{"after": each.epoch, "needed_by": each.what} for each in plan.holds],
    }


class Retainer:
    """Retains the masters of one state. `threads` are the proof's."""

    def __init__(
        self, settings: Settings, ledger: Ledger, now: Callable[[], datetime], threads: int
    ) -> None:
        self._settings, self._ledger, self._now = settings, ledger, now
        self._threads, self._root = threads, DataRoot(settings.state)
        self._compiled = Compiled(ledger)

    def streams(self) -> list[str]:
        """The streams that have a retention."""
        listed = versions.streams(self._ledger)
        return [row.name for row in listed if self._settings.retain.of(row.name) is not None]

    def plan(self, stream: str) -> Plan:
        """What `retain` would do now. The stream must have a retention."""
        now = self._now()
        return retention.plan(self._ledger, stream, now - self._age(stream), now)

    def where_due(self, stream: str) -> Retained | None:
        """`retain` where there is a retention and what may go lasts long enough to be worth it:
        each time reads the master up to the cut."""
        span = self._settings.retain.span(stream)
        if span is None:
            return None
        found = self.plan(stream)
        return None if found.empty or found.span < span else self.retain(stream)

    def retain(self, stream: str) -> Retained:
        """Let go what is old enough and needed by nothing.

        Raises `LeaseHeld` while another process does, `RetentionRefused` where the bases are not
        what is published, `RetentionNotNext` where something came between.
        """
        begun = time.monotonic()
        with self._taken(stream) as lease:
            now = self._now()
            plan = retention.begin(self._ledger, stream, lease, now - self._age(stream), now)
            self._remove_leftovers(plan, lease)
            count = 0 if plan.empty else self._work(plan, lease)
        if count:
            back_up(self._settings.state)  # what was let go is on record nowhere else
        old = self._now() - self._settings.keep_removed
        publish.remove_old(self._ledger, self._root, stream, old)
        return Retained(plan, count, time.monotonic() - begun)

    def _work(self, plan: Plan, lease: Lease) -> int:
        """From the plan to the transaction; how many partials were compared."""
        failpoint("retention.before_files")
        with self._failing(plan, lease):
            made: list[DataFile] = []
            found = [self._base(plan, each, lease, made) for each in plan.versions]
            evidence = _evidence(plan, found)
            self._must_equal(plan, lease, found, evidence)
            failpoint("retention.after_files")
            within = registered.plan(self._ledger, plan.stream).dedup_within
            now = self._now()
            retention.commit(self._ledger, plan, lease.token, made, evidence, within, now)
        failpoint("retention.after_commit")
        return sum(each.built for compared in found for each in compared)

    # ---- one version

    def _base(
        self, plan: Plan, kept_: KeptVersion, lease: Lease, made: list[DataFile]
    ) -> list[Comparison]:
        """Write the base of a version and compare it; its files are appended to `made`."""
        stream, view = self._compiled.of(kept_.view, kept_.version)
        with stages.working(self._settings.memory, self._threads, self._temp) as engine:
            declared = declared_epochs(self._ledger, plan.stream)
            work = _Work(engine, self._root, self._settings, stream, view, plan, kept_, declared)
            files = list(work.write(lease.token, self._temp))
            made += files
            return work.compare(files, self._temp)

    def _must_equal(
        self,
        plan: Plan,
        lease: Lease,
        found: Sequence[Sequence[Comparison]],
        evidence: Mapping[str, Any],
    ) -> None:
        different = [each for one in found for each in one if each.different]
        if different:
            lines = [
                f"view {kept_.view!r}, {line(each)}"
                for kept_, one in zip(plan.versions, found, strict=True)
                for compared in one
                for each in compared.differences
            ][: compare.MOST]
            refused = RetentionRefused(plan.stream, plan.epoch, lines)
            now = self._now()
            retention.end(
                self._ledger, plan, lease.token, REFUSED, str(refused), now, evidence=evidence
            )
            raise refused

    # ---- around it

    def _age(self, stream: str) -> timedelta:
        age = self._settings.retain.of(stream)
        assert age is not None
        return age

    @property
    def _temp(self) -> Path:
        return self._settings.scratch

    @contextmanager
    def _taken(self, stream: str) -> Iterator[Lease]:
        name, ttl = retention.lease_name(stream), self._settings.lease_ttl
        holder = this_process()
        lease = leases.take(self._ledger, name, holder, self._now(), ttl, alive=is_running)
        try:
            with kept(self._settings, lease, self._now):
                yield lease
        finally:
            leases.release(self._ledger, lease)

    @contextmanager
    def _failing(self, plan: Plan, lease: Lease) -> Iterator[None]:
        """Records why it did not come to its end. The files that it wrote stay for the next one to
        remove: whether a commit that failed went through is known from the ledger alone."""
        try:
            yield
        except BaseException as error:
            with suppress(StaleToken):
                told = str(error) or type(error).__name__
                retention.end(self._ledger, plan, lease.token, FAILED, told, self._now())
            raise

    def _remove_leftovers(self, plan: Plan, lease: Lease) -> None:
        """Remove bases that no transaction named: they were written under earlier tokens, whose
        holders cannot commit any more."""
        keep = named(self._ledger, BASE, plan.stream)
        top = self._root.local("base")
        own = {each.name for each in versions.views(self._ledger, plan.stream)}
        for view in sorted(own):
            folder = top / view
            for file in sorted(each for each in folder.rglob("*") if each.is_file()):
                path = file.relative_to(top.parent).as_posix()
                if path not in keep and token_of(file.name) < lease.token:
                    self._root.remove(path)
            if folder.is_dir():
                remove_empty(folder)


class _Work:
    """One version at work in one engine."""

    def __init__(
        self,
        engine: Engine,
        root: DataRoot,
        settings: Settings,
        stream: CompiledStream,
        view: CompiledView,
        plan: Plan,
        kept_: KeptVersion,
        declared: tuple[Declared, ...],
    ) -> None:
        self._engine, self._root, self._settings = engine, root, settings
        self._declared = declared
        self._stream, self._view, self._plan, self._kept = stream, view, plan, kept_

    def write(self, token: int, temp: Path) -> Iterator[DataFile]:
        """The files of the new base, each durable."""
        plan, view = self._plan, self._view
        gathered = self._gather("$base", plan.before + 1, plan.epoch, self._kept.base, temp)
        for table in view.tables:
            keys = sql.names(name for name, _ in table.keys)
            kept_rows = view.within(f"({table.merge(gathered[table.name])})", self._kept.bounds)
            select = f"FROM {kept_rows}" + (f" ORDER BY {keys}" if keys else "")
            yield self._write(table, select, token)
            self._engine.execute(f"DROP TABLE {gathered[table.name]}")

    def compare(self, made: Sequence[DataFile], temp: Path) -> list[Comparison]:
        """The new base with the master after it, and the published batch view."""
        first, cut = self._plan.epoch + 1, self._kept.cut
        gathered = self._gather("$after", first, cut, made, temp)
        found = []
        for table in self._view.tables:
            own = [each for each in self._kept.batch if each.table == table.name]
            source = self._engine.files([self._root.check(each.file) for each in own])
            served = self._made(f"$served_{table.name}", stages.partials(table, source))
            merged = self._made(f"$merged_{table.name}", table.merge(gathered[table.name]))
            found.append(compare.partials(self._engine, table, served, merged))
        return found

    def _gather(
        self, name: str, first: int, last: int, base: Sequence[DataFile], temp: Path
    ) -> dict[str, str]:
        """The partials of a base and of the master's epochs, not merged yet, by table."""
        master = [each for each in self._plan.master if first <= each.first and each.last <= last]
        job = Job(
            root=self._root,
            stream=self._stream,
            view=self._view,
            build=0,
            first=first,
            cut=last,
            ranges=(),
            parts=stages.plan(master, base, self._settings.task_bytes),
            buckets=1,
            memory=self._settings.memory,
            piece_rows=self._settings.piece_rows,
            probe=hash_probe(),
            declared=self._declared,
        )
        tables = {table.name: table for table in self._view.tables}
        found = {}
        for table in tables.values():
            listed = ", ".join(f"{sql.name(key)} {kind}" for key, kind in stages.columns(table))
            found[table.name] = sql.name(f"{name}_{table.name}")
            self._engine.execute(f"CREATE OR REPLACE TEMP TABLE {found[table.name]} ({listed})")
        for part in job.parts:
            for _, data in stages.fold(job, part, temp):
                table_name, rows = stages.read(data)
                self._engine.register(PIECE, rows)
                select = stages.partials(tables[table_name], sql.name(PIECE))
                self._engine.execute(f"INSERT INTO {found[table_name]} {select}")
                self._engine.con.unregister(PIECE)
        return found

    def _write(self, table: PartialTable, select: str, token: int) -> DataFile:
        plan, view, first = self._plan, self._view, self._kept.since
        told = Description(
            kind=BASE,
            stream=plan.stream,
            first=first,
            last=plan.epoch,
            ranges=(),
            view=view.name,
            version=view.version,
            table=table.name,
        )
        rows = 0

        def write(path: Path) -> None:
            nonlocal rows
            rows = self._engine.copy(select, path, told)

        folder = f"base/{view.name}/{view.version}/{plan.epoch}/{table.name}"
        file = self._root.write(folder, f"{token}-{uuid.uuid4().hex}.parquet", write)
        return DataFile(BASE, file, first, plan.epoch, rows, version=view.version, table=table.name)

    def _made(self, name: str, select: str) -> str:
        """A table of what a SELECT gives of groups that are kept."""
        quoted, rows = sql.name(name), self._view.within(f"({select})", self._kept.bounds)
        self._engine.execute(f"CREATE OR REPLACE TEMP TABLE {quoted} AS FROM {rows}")
        return quoted


def _evidence(plan: Plan, found: Sequence[Sequence[Comparison]]) -> dict[str, Any]:
    return {
        "versions": [
            {
                "view": each.view,
                "version": each.version,
                "publication": each.publication,
                "cut": each.cut,
                "partials": [one.json() for one in compared],
            }
            for each, compared in zip(plan.versions, found, strict=True)
        ]
    }


def token_of(name: str) -> int:
    """The token that a base was written under, finished or not; 0 for any other file."""
    first = name.removeprefix(".").partition("-")[0]
    return int(first) if first.isdecimal() else 0
