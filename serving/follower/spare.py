"""The tables, from the follower's side: another process applies each change, and says how it went.

Workers are forks of the spare, so a change that it has taken is one that they can take; and what it
has computed they need not: they take the rows that it merged. So what a view's own SQL or files are
to blame for is known here before any client's tables are touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from schemas.errors import DamagedFile, EverviewError, ViewFailed
from serving.frames import Wire
from serving.packing import pack
from serving.worker.tables import Change


class Applies(Protocol):
    """What a follower tells its changes to."""

    def apply(self, change: Change) -> object:
        """Make a change whole, or nothing of it; raises `ViewFailed` where a view is to blame."""


class ChangeNotMade(EverviewError):
    """The spare could not make a change, and no view is to blame."""


class SpareGone(Exception):
    """The spare has ended; nothing can be followed without it."""


class Spare:
    """`Applies` over a wire. `announce` is told each change that was made: its number, the change,
    and the bytes that workers are to take, none of a heavy one. Numbers follow `after`."""

    def __init__(
        self, wire: Wire, after: int, announce: Callable[[int, Change, bytes | None], None]
    ) -> None:
        self._wire, self._announce = wire, announce
        self._made = after

    def apply(self, change: Change) -> None:
        number = self._made + 1
        try:
            self._wire.send({"kind": "change", "number": number}, pack(change))
        except OSError as error:
            raise SpareGone from error
        answer = self._wire.receive()
        if answer is None:
            raise SpareGone
        if answer.kind == "failed":
            failed = ViewFailed(str(answer.header["view"]), str(answer.header["message"]))
            damage = answer.header["damage"]
            raise failed from (DamagedFile(*damage) if damage else None)
        if answer.kind == "refused":
            raise ChangeNotMade(str(answer.header["message"]))
        self._made = number
        self._announce(number, change, None if answer.header["heavy"] else answer.payload)
