"""What a client asks, and what it gets: what front and workers pass to each other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MAX_ROWS, MAX_ROWS_LIMIT = 10_000, 1_000_000  # default, and what more is cut to

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True)
class Query:
    """One statement, and how its answer is to look."""

    sql: str
    params: Sequence[Value] | Mapping[str, Value] | None
    max_rows: int
    media_type: str
    integers: str = "number"  # or string
    strict: bool = False  # refuse an answer that is degraded
    as_of: int | str | None = None  # an epoch, or an ISO 8601 instant; None: now


@dataclass(frozen=True)
class Head:
    """What is known of an answer before its body."""

    media_type: str
    coverage: tuple[Mapping[str, Any], ...]  # JSON objects, one per view that was read
    steady: bool = True  # the same text over the same state gives the same answer
    row_count: int | None = None  # None: the body is streamed, and more rows may come
    truncated: bool | None = None


class Sink(Protocol):
    """Where a worker puts an answer: the head once, then the body in parts."""

    def head(self, head: Head) -> None: ...

    def part(self, data: bytes) -> None: ...


class Whole:
    """A sink that keeps an answer in memory."""

    def __init__(self) -> None:
        self._head: Head | None = None
        self._parts: list[bytes] = []

    def head(self, head: Head) -> None:
        self._head = head

    def part(self, data: bytes) -> None:
        self._parts.append(data)

    def body(self) -> bytes:
        """What was put here, which is whole once the job has ended well."""
        return b"".join(self._parts)

    def reply(self) -> Reply:
        """Of a job that has ended well."""
        assert self._head is not None
        return Reply(self._head, self.body())


@dataclass(frozen=True)
class Reply:
    """An answer as the front hands it on. A body that breaks off raises while it is read."""

    head: Head
    body: bytes | AsyncGenerator[bytes]
    source: str = "worker"  # or cache, or shared: another request was waiting for the same
