"""The master of a stream as one snapshot names it: files of sealed epochs, segments of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from schemas.errors import MasterIncomplete
from schemas.ledger import files, retention
from schemas.ledger.connect import Ledger
from schemas.ledger.declared import declared_in
from schemas.ledger.files import MASTER, DataFile
from schemas.ledger.sealing import last_sealed


@dataclass(frozen=True)
class MasterFile:
    """A file of sealed epochs, and the version of the stream that accepted them."""

    data: DataFile
    stream_version: str


@dataclass(frozen=True)
class Master:
    """The sealed epochs of a stream that retention has left."""

    stream: str
    retained: int  # the last epoch that is not there any more; 0: all of them are
    until: int  # the last sealed epoch
    files: tuple[MasterFile, ...]  # in order

    def must_be_whole(self) -> None:
        """`MasterIncomplete` where no file has some of the epochs."""
        listed = (each.data for each in self.files)
        must_be_whole(self.stream, listed, self.retained, self.until)


def must_be_whole(stream: str, listed: Iterable[DataFile], after: int, until: int) -> None:
    """`MasterIncomplete` where none of these files, in order, has some of the epochs."""
    reached = after
    for each in listed:
        if each.first > reached + 1:
            raise MasterIncomplete(stream, reached + 1, each.first - 1)
        reached = max(reached, each.last)
    if reached < until:
        raise MasterIncomplete(stream, reached + 1, until)


def master(ledger: Ledger, stream: str) -> Master:
    """What there is of a stream's master in files."""
    with ledger.read() as connection:
        return master_in(connection, stream)


def master_in(connection: Connection, stream: str) -> Master:
    """`master` inside another transaction."""
    found = files.counting(connection, stream, MASTER)
    retained, until = retention.boundary(connection, stream), last_sealed(connection, stream)
    return Master(stream, retained, max(until, retained), _accepted_by(connection, stream, found))


def _accepted_by(
    connection: Connection, stream: str, files: Sequence[DataFile]
) -> tuple[MasterFile, ...]:
    # a sealed range is of one version, and so is a file of it
    spans = declared_in(connection, stream) if files else ()
    return tuple(
        MasterFile(each, span.stream_version)
        for each in files
        for span in spans
        if span.first <= each.first <= span.last
    )
