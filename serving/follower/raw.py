"""What `raw.<stream>` is read from, as the follower keeps it: files that were checked, and rows in
memory of the epochs that are in none of these.

    epochs  1 ... retained | retained+1 .......... until | floor+1 ......... epoch
            removed        | files of the master         | rows in memory

It can be asked while `floor` is not behind `until`. What sealing writes takes the place of rows in
memory, and merged files that of others, when all of it was checked: until then nothing changes, as
files that stopped counting stay on the disk for a while. What is in memory is bounded; where
sealing does not keep up, the oldest rows go, and the relation waits until files have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from schemas import registered
from schemas.compile import CompiledRaw
from schemas.errors import EverviewError
from schemas.ledger.epochs import CommittedEpoch
from schemas.ledger.master import Master
from schemas.ledger.versions import StreamRow
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile
from serving.follower.checking import Checker
from serving.worker.laid import LaidFile
from serving.worker.raw import NewRaw, RawFile, RawRows

HELD_BYTES = 256 * 2**20  # of rows in memory, of one stream

NOT_LOOKED = "is not ready: its files were not looked at yet"


@dataclass(frozen=True)
class EpochRows:
    """The rows of the master of an epoch, duplicates among them, as its segments have them."""

    epoch: int
    accepted_by: str
    tables: tuple[pa.Table, ...]

    @classmethod
    def of(cls, epoch: CommittedEpoch, tables: Iterable[pa.Table]) -> EpochRows:
        return cls(epoch.epoch, epoch.stream_version, tuple(tables))

    @property
    def bytes(self) -> int:
        return sum(each.nbytes for each in self.tables)


@dataclass(frozen=True)
class FollowedRaw:
    """The events of one stream, at the state of its views."""

    version: str  # of the stream
    compiled: CompiledRaw | None  # None: this release cannot read it, `trouble` says why
    floor: int  # rows of the epochs after it are in memory
    files: tuple[RawFile, ...] = ()
    until: int = 0  # epochs up to it are in `files`, or removed
    retained: int = 0  # the last epoch that is removed
    held: tuple[tuple[int, int], ...] = ()  # epochs in memory, with their bytes
    dropped: int = 0  # the last epoch that was let go because it was too much; 0: none
    checking: str = NOT_LOOKED  # why there are no other files yet
    trouble: str | None = None  # damage, or what else keeps it from being asked

    @classmethod
    def begun(cls, row: StreamRow, epoch: int) -> FollowedRaw:
        """Nothing, where the views of a stream are at an epoch."""
        try:
            return cls(row.version, registered.raw(row), epoch)
        except EverviewError as error:
            return cls(row.version, None, epoch, trouble=f"is not ready: {error}")

    @property
    def keyed(self) -> bool:
        """Whether an event can repeat another one's id."""
        return self.compiled is not None and bool(self.compiled.key)

    @property
    def waits(self) -> str | None:
        """Why it is not to be asked, as what follows its name."""
        if self.trouble is not None:
            return self.trouble
        if self.until >= self.floor:
            return None
        first, kept = self.until + 1, HELD_BYTES >> 20
        if self.dropped > self.until:
            return (
                f"is not ready: epochs {first}..{self.dropped} are neither in checked files nor "
                f"among the {kept} MiB that are in memory; it waits for sealing"
            )
        return self.checking

    def made(self, *, anew: bool = False) -> tuple[NewRaw, ...]:
        """What the tables are to read."""
        if self.compiled is None:
            return ()
        return (NewRaw(self.compiled, self.files, self.floor, anew=anew),)

    def with_rows(
        self, epochs: Sequence[EpochRows]
    ) -> tuple[FollowedRaw, tuple[NewRaw, ...], tuple[RawRows, ...]]:
        """After epochs, and what the tables are to do for it: let go what is too much, then add."""
        if self.compiled is None:
            return self, (), ()
        held = [*self.held, *((each.epoch, each.bytes) for each in epochs)]
        floor, dropped, size = self.floor, self.dropped, sum(count for _, count in held)
        if size > HELD_BYTES:
            while held and size > HELD_BYTES // 2:  # more than needed, so that it is seldom
                floor, count = held.pop(0)
                dropped, size = floor, size - count
        after = replace(self, floor=floor, held=tuple(held), dropped=dropped)
        rows = tuple(
            RawRows(self.compiled.stream, each.accepted_by, table)
            for each in epochs
            for table in each.tables
            if each.epoch > floor and table.num_rows
        )
        return after, after.made() if floor > self.floor else (), rows

    def without_rows(self, epoch: int, message: str) -> FollowedRaw:
        """Where rows up to an epoch cannot be in memory."""
        checking = f"is not ready: rows of epoch {epoch} cannot be read: {message}"
        return replace(self, floor=epoch, held=(), checking=checking)

    def with_files(
        self, found: Master, checker: Checker, root: DataRoot, epoch: int
    ) -> FollowedRaw:
        """With the files that a snapshot names, if all of them are checked and the views are as
        far; else with the reason why not."""
        if self.compiled is None:
            return self
        try:
            found.must_be_whole()
        except EverviewError as error:
            return replace(self, trouble=f"is not ready: {error}")
        listed = [each.data.file for each in found.files]
        damage = next((told for each in listed if (told := checker.damage(each))), None)
        if damage is not None:
            return replace(self, trouble=f"is not ready: {damage}")
        stamps = [checker.whole(each) for each in listed]
        total = sum(each.bytes for each in listed)
        done = sum(f.bytes for f, stamp in zip(listed, stamps, strict=True) if stamp is not None)
        files = tuple(
            RawFile(LaidFile(file.path, root.local(file.path), stamp), each.stream_version)
            for each, file, stamp in zip(found.files, listed, stamps, strict=True)
            if stamp is not None
        )
        checking = f"is not ready: {done:,} of {total:,} bytes of its files are checked"
        if len(files) < len(listed) or found.until > epoch:
            return replace(self, trouble=None, checking=checking)
        floor = max(self.floor, found.until)
        return replace(
            self,
            files=files,
            until=found.until,
            retained=found.retained,
            floor=floor,
            held=tuple(each for each in self.held if each[0] > floor),
            checking=checking,
            trouble=None,
        )


def newest_first(found: Iterable[Master]) -> list[StoredFile]:
    """All files, in the order in which they are to be checked."""
    files = [each.data for one in found for each in one.files]
    return [each.file for each in sorted(files, key=lambda each: -each.last)]
