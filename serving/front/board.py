"""What the follower said of a state.

`number` is that of the last change. For each view and stream there is the number of the change
since when its answers are what they are: an answer that was made at that number or later still is
the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.coverage import COVERED
from serving.frames import Frame

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Board:
    """The state that clients see."""

    number: int = 0
    views: Mapping[str, Facts] = field(default_factory=dict)  # lower-case name -> coverage
    streams: Mapping[str, Facts] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)  # by view or stream: see above

    def after(self, change: Frame) -> Board:
        """The board after a change."""
        number = int(change.header["number"])
        views = {str(each["view"]).lower(): each for each in change.header["views"]}
        streams = {str(each["stream"]).lower(): each for each in change.header["streams"]}
        since = {
            **_since(number, views, self.views, self.since),
            **_since(number, _raw(streams), _raw(self.streams), self.since),
        }
        return Board(number, views, streams, since)

    def waiting(self) -> dict[str, str]:
        """Views that are not to be asked yet, and why."""
        return {
            facts["view"]: facts["waits"]
            for facts in self.views.values()
            if facts["waits"] is not None
        }

    def still(self, names: Iterable[str], number: int) -> bool:
        """Whether an answer that read these and was made at that number is the answer now."""
        return all(self.since.get(name, number + 1) <= number for name in names)

    def behind(self, other: Board) -> list[str]:
        """The views and streams that `other` answers, and this one does not yet, or at an earlier
        epoch."""
        return [
            *_earlier(self.views, other.views, "waits"),
            *_earlier(self.streams, other.streams, "raw_waits"),
        ]


def _earlier(mine: Mapping[str, Facts], others: Mapping[str, Facts], waits: str) -> list[str]:
    """Of the names that are in both."""
    return [
        name
        for name, facts in others.items()
        if name in mine
        and facts[waits] is None
        and (mine[name][waits] is not None or int(mine[name]["epoch"]) < int(facts["epoch"]))
    ]


def _raw(streams: Mapping[str, Facts]) -> dict[str, Facts]:
    return {f"raw.{name}": facts for name, facts in streams.items()}


def _since(
    number: int,
    now: Mapping[str, Facts],
    before: Mapping[str, Facts],
    since: Mapping[str, int],
) -> dict[str, int]:
    return {
        name: since[name] if before.get(name) == facts else number for name, facts in now.items()
    }


def view_facts(coverage: Facts, columns: Facts) -> dict[str, Any]:
    """A view as `/views` lists it."""
    return {
        "name": coverage["view"],
        "stream": coverage["stream"],
        "version": coverage["version"],
        "cut": coverage["cut"],
        "publication": coverage["publication"],
        "columns": columns.get("columns", []),
        "keys": columns.get("keys", []),
        "coverage": {name: coverage[name] for name in COVERED},
    }


def stream_facts(stream: Facts) -> dict[str, Any]:
    """A stream as `/streams` lists it."""
    told = ("topic", "version", "epoch", "position", "fresh_as_of", "degraded")
    return {"name": stream["stream"], **{name: stream[name] for name in told}}
