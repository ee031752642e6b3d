"""A damaged file with all that its repair has to know."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from infra.damage.offsets import Covered
from schemas import registered
from schemas.compile import CompiledStream
from schemas.errors import RepairRefused
from schemas.ledger import repairs
from schemas.ledger.connect import Ledger
from schemas.ledger.files import MASTER, DataFile
from schemas.ledger.repairs import Held, Span
from schemas.ledger.versions import StreamRow
from schemas.parquet import Description, Origin
from schemas.storage import DataRoot


@dataclass(frozen=True)
class Target:
    """`span` has the file's epochs in it, `token` is what its successor is written under."""

    ledger: Ledger
    root: DataRoot
    held: Held
    span: Span
    covered: Covered
    origin: Origin | None  # of the file's epochs; None where nothing tells it
    token: int

    @property
    def data(self) -> DataFile:
        return self.held.data

    @property
    def row(self) -> StreamRow:
        """The stream as it was declared when it accepted these epochs."""
        return repairs.stream_as(self.ledger, self.held.stream, self.span.stream_version)

    @property
    def stream(self) -> CompiledStream:
        return registered.stream(self.row)

    def description(self, kind: str) -> Description:
        """What the successor says of itself."""
        if not self.covered.exact:
            message = "no whole file tells which offsets its epochs cover"
            raise self.refused(message)
        data, ranges = self.data, self.covered.ranges
        return Description(
            kind, self.held.stream, data.first, data.last, ranges, origin=self.origin
        )

    def masters(self) -> list[DataFile]:
        """The master files with its epochs; `RepairRefused` where some are in none."""
        first, last = self.data.first, self.data.last
        found = list(self.counting(MASTER, first, last))
        reached = first - 1
        for each in sorted(found, key=lambda each: each.first):
            if each.first > reached + 1:
                break
            reached = max(reached, each.last)
        if reached < last:
            message = f"the master has no epoch {reached + 1}"
            raise self.refused(message)
        return found

    def counting(self, kind: str, first: int, last: int) -> Iterator[DataFile]:
        """The stream's files of a kind that have epochs of these."""
        for each in repairs.counting(self.ledger):
            data = each.data
            of_kind = (each.stream, data.kind) == (self.held.stream, kind)
            if of_kind and data.first <= last and first <= data.last:
                yield data

    def name(self, ending: str = "parquet") -> str:
        """A name of its own for a file of the same epochs, as sealing gives them."""
        return f"{self.data.first}-{self.data.last}-{self.token}-{uuid.uuid4().hex}.{ending}"

    def refused(self, why: str) -> RepairRefused:
        return RepairRefused(self.data.file.path, why)
