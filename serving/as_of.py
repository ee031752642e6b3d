"""A statement as of an earlier epoch, from its text to its answer: in a process that the caller can
end, since what it reads and folds may be much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from schemas.errors import DamagedFile, EverviewError, ViewFailed
from schemas.ledger.connect import Ledger, open_ledger
from schemas.storage import DataRoot
from serving.envelope import Code, RequestError
from serving.follower.past import Past, Stamps, describe
from serving.query import Query, Sink
from serving.worker import guard, past
from serving.worker.guard import Relation

SNAPSHOTS = 3  # how often files may vanish under it before that is damage


def answer_as_of(
    state: Path,
    query: Query,
    sink: Sink,
    clock: Callable[[], float],
    *,
    memory_limit: str | None = None,
    known: Stamps | None = None,
) -> None:
    """Put the answer as of `query.as_of` into `sink`, or raise a `RequestError`. `known` are stamps
    of files of the master that need not be read again, by path; `clock` counts seconds."""
    as_of = query.as_of
    if as_of is None or isinstance(as_of, bool):
        message = f"as_of must be an epoch or a time of ISO 8601; got {as_of!r}"
        raise RequestError(Code.BAD_REQUEST, message)
    relations = _relations(query.sql)
    root = DataRoot(state)

    def described(ledger: Ledger) -> Past:
        return describe(ledger, root, relations, as_of, known or {})

    try:
        with open_ledger(state) as ledger:
            for _ in range(SNAPSHOTS):
                seen = ledger.state()
                try:
                    past.answer(described(ledger), query, sink, clock, memory_limit)
                    return
                except (DamagedFile, ViewFailed) as error:
                    failed = error
                # what is gone may have been sealed or merged meanwhile: then there are other files
                if ledger.state() == seen:
                    break
            raise failed
    except RequestError:
        raise
    except EverviewError as error:
        told = str(error).replace(f"{state.absolute()}/", "")
        raise RequestError(Code.NOT_READY, told) from error


def _relations(sql: str) -> Sequence[Relation]:
    connection = duckdb.connect()
    try:
        connection.execute("SET errors_as_json = true")
        return guard.check(connection, sql).relations
    finally:
        connection.close()
