"""What a scrub found, put right where that is possible: one ledger transaction per file.

    segment, master, rejects   from the log, while it has the offsets
    ids, run                   from the master
    reference                  from the project
    batch, finished            not patched: a full build publishes others
    any of them                from a backup that has the very file, tried first

Each repair has the counts of what it replaces, or it is refused. What needs a file that is repaired
later is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from infra.damage import refetch, refold
from infra.damage.log import Log
from infra.damage.offsets import Covered
from infra.damage.scrub import REFERENCE, Damage
from infra.damage.target import Target
from schemas import parquet
from schemas.engine import ENGINE_FAULTS
from schemas.errors import DamagedFile, EverviewError, RepairRefused
from schemas.failpoints import failpoint
from schemas.ledger import repairs
from schemas.ledger.connect import Ledger
from schemas.ledger.files import IDS, MASTER, REJECTS, RUN, SEGMENT, DataFile
from schemas.ledger.repairs import Held, Span
from schemas.parquet import Origin
from schemas.project import Content
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from streaming.task import leave_engine

ORDER = (REFERENCE, MASTER, REJECTS, IDS, SEGMENT, RUN)
REPAIRED = "repaired"


class Repairer:
    """Repairs one file after the other. `log` is None where no broker is to be asked; `contents`
    gives what the project's references hold; `backup` is a folder with copies of files."""

    def __init__(
        self,
        ledger: Ledger,
        root: DataRoot,
        log: Log | None,
        contents: Callable[[], Sequence[Content]],
        now: Callable[[], datetime],
        backup: Path | None = None,
    ) -> None:
        self._backup = None if backup is None else DataRoot(backup)
        self._ledger, self._root, self._log = ledger, root, log
        self._contents, self._now = contents, now

    def all(self, damaged: Sequence[Damage]) -> dict[str, str]:
        """Path -> what became of it; words that begin with REPAIRED where that is so."""
        told: dict[str, str] = {}
        wanted = sorted(damaged, key=_order)
        while True:
            tried: dict[str, str] = {}
            for each in wanted:
                if each.path not in tried:
                    together = [each]
                    if each.kind == SEGMENT:  # those of one epoch, as one
                        together = [other for other in wanted if _same_epoch(other, each)]
                    tried |= dict.fromkeys((one.path for one in together), self._one(together))
            told |= tried
            left = [each for each in wanted if not told[each.path].startswith(REPAIRED)]
            if not left or len(left) == len(wanted):
                leave_engine()
                return told
            wanted = left

    def _one(self, together: Sequence[Damage]) -> str:
        first = together[0]
        try:
            if self._backup is not None and all(map(self._copied, together)):
                return f"{REPAIRED}: it was copied from the backup"
            if first.kind not in ORDER:
                return f"not repaired: {first.remedy}"
            if first.kind == REFERENCE:
                return self._reference(first)
            return self._file(together)
        except (EverviewError, OSError, *ENGINE_FAULTS) as error:
            return f"not repaired: {error}"

    def _copied(self, damage: Damage) -> bool:
        """Whether the backup had the file as the ledger has it; then it is at its place again."""
        assert self._backup is not None
        copy = self._backup.local(damage.path)
        if not copy.is_file():
            return False
        data = copy.read_bytes()
        found = StoredFile.of(damage.path, data)
        sha256 = damage.path.rpartition("/")[2]
        same = found.sha256 == sha256 if damage.held is None else found == damage.held.data.file
        if same:
            # whoever reads it meanwhile finds no file, and tries again
            self._root.remove(damage.path)
            folder, _, name = damage.path.rpartition("/")
            self._root.put(folder, name, data)
        return same

    def _file(self, together: Sequence[Damage]) -> str:
        held = together[0].held
        assert held is not None
        if held.data.kind in (SEGMENT, MASTER, REJECTS) and self._log is None:
            return f"not repaired: no broker was named to read {_words(together[0])} from"
        target = self._target(held, together[0].covered)
        paths = [each.path for each in together]
        made = self._made(target, paths)
        failpoint("repair.after_file")
        try:
            stream = held.stream
            repairs.replace(self._ledger, stream, target.token, paths, made, self._now())
        except RepairRefused:
            self._root.remove(made.file.path)
            raise
        note = ""
        if held.data.kind in (MASTER, REJECTS) and held.data.first < held.data.last:
            note = f"; its rows are of epoch {held.data.last} now, the last one of the file"
        elif held.data.kind == IDS and held.data.first < held.data.last:
            note = "; its ids are remembered as if counted in the last epoch of the file"
        return f"{REPAIRED}: {made.file.path} is in its place{note}"

    def _made(self, target: Target, paths: Sequence[str]) -> DataFile:
        kind = target.data.kind
        if kind == RUN:
            return refold.run(target)
        if kind == IDS:
            return refold.ids(target)
        assert self._log is not None
        if kind == SEGMENT:
            return refetch.segment(target, self._log, paths)
        return (refetch.master if kind == MASTER else refetch.rejects)(target, self._log)

    def _target(self, held: Held, covered: Covered | None) -> Target:
        data = held.data
        found = [
            each
            for each in repairs.spans(self._ledger, held.stream)
            if each.first <= data.first and data.last <= each.last
        ]
        if not found or covered is None:
            message = "the ledger does not have its epochs as one any more; scrub again"
            raise RepairRefused(data.file.path, message)
        token = repairs.token(self._ledger, held.stream)
        origin = self._origin(held, found[0])
        return Target(self._ledger, self._root, held, found[0], covered, origin, token)

    def _origin(self, held: Held, span: Span) -> Origin | None:
        """What is known of the file's epochs; a part of a range is told by other files of it."""
        if (span.first, span.last) == (held.data.first, held.data.last):
            return span.origin
        for each in repairs.counting(self._ledger):
            data = each.data
            same = (each.stream, data.first, data.last) == (
                held.stream,
                held.data.first,
                held.data.last,
            )
            if same and data.kind in (MASTER, REJECTS, IDS, RUN) and data != held.data:
                try:
                    told = parquet.said(self._root.check(data.file), data.file.path)
                except (DamagedFile, OSError):
                    continue
                if told is not None and told.origin is not None:
                    return told.origin
        return None

    def _reference(self, damage: Damage) -> str:
        sha256 = damage.path.rpartition("/")[2]
        content = next((e for e in self._contents() if e.file.sha256 == sha256), None)
        if content is None:
            why = "no reference of the project has its content; put it there, or restore a backup"
            return f"not repaired: {why}"
        # whoever reads it meanwhile finds no file, and tries again
        self._root.remove(damage.path)
        file: StoredFile = self._root.put("references", sha256, content.data)
        return f"{REPAIRED}: {file.path} has its content again"


def _same_epoch(one: Damage, other: Damage) -> bool:
    if one.held is None or other.held is None or one.kind != other.kind:
        return False
    a, b = one.held, other.held
    return (a.stream, a.data.first) == (b.stream, b.data.first)


def _order(damage: Damage) -> tuple[int, int]:
    at = ORDER.index(damage.kind) if damage.kind in ORDER else len(ORDER)
    return at, 0 if damage.held is None else damage.held.data.first


def _words(damage: Damage) -> str:
    return "its records" if damage.covered is None else damage.covered.words
