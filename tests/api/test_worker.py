"""A worker that cannot go on ends, and says what it can."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

import duckdb
import pytest

from serving.frames import Frame, Wire
from serving.worker import worker
from serving.worker.confine import Limits
from serving.worker.job import Job
from serving.worker.tables import Tables
from serving.worker.worker import Worker


class Exited(BaseException):
    """In the place of the end of the process."""


class Front:
    """A wire; `frames` come over it, and then what `end` raises."""

    def __init__(self, frames: list[Frame], end: type[BaseException] | None = None) -> None:
        self.said: list[Mapping[str, Any]] = []
        self._frames, self._end = iter(frames), end

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:  # noqa: ARG002
        self.said.append(header)

    def receive(self) -> Frame | None:
        frame = next(self._frames, None)
        if frame is None and self._end is not None:
            raise self._end
        return frame


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Exited

    monkeypatch.setattr(os, "_exit", end)
    return codes


def made(front: Front) -> Worker:
    return Worker(cast(Wire, front), Tables(), Limits(2**40), [], None)


def test_it_ends_with_the_front(exits: list[int]) -> None:
    with pytest.raises(Exited):
        made(Front([]))._listen()
    assert exits == [0]


def test_one_that_cannot_listen_ends(exits: list[int]) -> None:
    with pytest.raises(Exited):
        made(Front([], MemoryError))._listen()
    assert 1 in exits


def test_one_that_falls_behind_ends(exits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEHIND_BYTES", 250)
    changes = [Frame({"kind": "change", "number": number}, b"x" * 100) for number in range(3)]
    with pytest.raises(Exited):
        made(Front(changes))._listen()
    assert 1 in exits


def test_after_an_error_of_the_engine_there_is_no_other_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: object) -> None:
        raise duckdb.InternalException("INTERNAL Error: an assertion failed")  # noqa: EM101

    monkeypatch.setattr(Job, "run", run)
    front = Front([])
    asked = {"sql": "SELECT 1", "params": None, "max_rows": 1, "media_type": "application/json"}
    query = Frame({"kind": "query", "id": 5, "least": 0, "query": asked})
    with pytest.raises(duckdb.InternalException):
        made(front)._query(query)
    (said,) = front.said
    assert (said["kind"], said["code"], said["id"], said["last"]) == ("error", "internal", 5, True)
    assert "an assertion failed" in said["message"]
