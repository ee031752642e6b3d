"""What has been seen of event times: is there no data, or is it delayed?

The *low watermark* of a partition is the smallest event time that may still come, as far as what
was observed can tell. The word and the question are MillWheel's (Akidau et al., VLDB 2013): there
the low watermark of a stage is the minimum over its pending work and the low watermarks of its
inputs. Here the inputs are a topic's partitions, the pending work is what they hold unread, and
nobody upstream says how far they are. So it is the later of two claims, each taken back by what
came too late for it:

- *by events*: everything up to the newest event time is there, less the **disorder**, which is how
  far an event lay behind the newest one counted before it in its partition;
- *by the log*: everything up to the moment at which the log was last read to its end is there, less
  the **delay**, which is how far an event lay behind that moment. The largest delay of any
  partition counts for all of them: one without events has none of its own.

A partition that is idle and read to its end moves by the second claim, so it does not hold back its
stream; one with unread records moves by the first alone. A stream's low watermark is the smallest
of its partitions', unknown as long as one of them is.

Disorder and delay are the largest of the running and of the last full hour, so that one event of
long ago is forgotten. Event times after the moment at which they were counted are the newest event
time, and count as that moment for the first claim. Events without an event time, duplicates, and
rejects that a replay re-admits say nothing.

What it cannot know: what producers hold back, what lies in a partition that Spark has not met yet
or behind an open transaction, and that the next event is later than all before it were. So it is an
estimate that may go back, when an event comes that is later than expected, and nothing is ever
dropped by it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from schemas.ledger.instant import microseconds

_HOUR = 3_600_000_000  # microseconds


@dataclass(frozen=True)
class Seen:
    """What an epoch has of one partition, in the order of its offsets. Times are microseconds since
    1970; None where no event has one."""

    newest: int | None = None  # event time
    reached: int | None = None  # the same, but at most the epoch's instant; so are the next two
    oldest: int | None = None
    disorder: int = 0
    stamped: int | None = None  # the newest timestamp of a record, rejects included

    def then(self, later: Seen) -> Seen:
        """This one, and what has larger offsets. Associative."""
        between = 0
        if self.reached is not None and later.oldest is not None:
            between = self.reached - later.oldest
        return Seen(
            _latest(self.newest, later.newest),
            _latest(self.reached, later.reached),
            _earliest(self.oldest, later.oldest),
            max(self.disorder, later.disorder, between),
            _latest(self.stamped, later.stamped),
        )


@dataclass(frozen=True)
class Epoch:
    """What an epoch tells beside its counts."""

    seen: Mapping[int, Seen] = field(default_factory=dict)  # by partition
    read_to: datetime | None = None  # the moment up to which logs were read to their end
    ended: frozenset[int] = frozenset()  # the partitions of which that is true
    reasons: Mapping[str, int] = field(default_factory=dict)  # of rejects
    future: int = 0  # accepted events with an event time after the epoch's instant
    timed: bool = True  # whether the stream declares an event time


@dataclass(frozen=True)
class Mark:
    """One partition, after an epoch. Times and spans are microseconds."""

    newest: int | None = None
    reached: int | None = None
    stamped: int | None = None
    read_to: int | None = None
    disorder: tuple[int, int] = (0, 0)  # the largest of this hour, and of the last one
    delay: tuple[int, int] = (0, 0)

    def after(self, seen: Seen, read_to: int | None) -> Mark:
        """After an epoch; `read_to` is None unless the partition was read to its end."""
        before = Seen(reached=self.reached)
        disorder = before.then(seen).disorder
        delay = 0
        told = self.read_to if self.read_to is not None else read_to
        if told is not None and seen.oldest is not None:
            delay = max(0, told - seen.oldest)
        return Mark(
            _latest(self.newest, seen.newest),
            _latest(self.reached, seen.reached),
            _latest(self.stamped, seen.stamped),
            _latest(self.read_to, read_to),
            (max(self.disorder[0], disorder), self.disorder[1]),
            (max(self.delay[0], delay), self.delay[1]),
        )

    def an_hour_later(self, hours: int) -> Mark:
        """With what was late before the last full hour forgotten."""
        if hours == 0:
            return self
        last = hours == 1
        return replace(
            self,
            disorder=(0, self.disorder[0] if last else 0),
            delay=(0, self.delay[0] if last else 0),
        )

    def low(self, delay: int) -> int | None:
        """The low watermark; `delay` is the stream's. None: nothing was counted yet, and the log
        was never read to its end."""
        by_events = None if self.reached is None else self.reached - max(self.disorder)
        by_the_log = None if self.read_to is None else self.read_to - delay
        return _latest(by_events, by_the_log)


@dataclass(frozen=True)
class Observed:
    """A stream, after an epoch: like its position it follows from the one before."""

    marks: Mapping[int, Mark] = field(default_factory=dict)  # by partition
    hour: int = 0  # since 1970, of the epoch's instant
    reasons: Mapping[str, int] = field(default_factory=dict)  # rejects so far
    future: int = 0  # accepted events so far whose event time was after their epoch's instant
    timed: bool = True  # without an event time there is no low watermark

    def advance(self, instant: datetime, epoch: Epoch) -> Observed:
        """After an epoch of that instant, which is not before the last one's."""
        hour = microseconds(instant) // _HOUR
        read_to = None if epoch.read_to is None else microseconds(epoch.read_to)
        marks = {p: mark.an_hour_later(hour - self.hour) for p, mark in self.marks.items()}
        for each in sorted(epoch.seen.keys() | epoch.ended):
            told = marks.get(each, Mark())
            at_end = read_to if each in epoch.ended else None
            marks[each] = told.after(epoch.seen.get(each, Seen()), at_end)
        reasons = dict(Counter(self.reasons) + Counter(epoch.reasons))
        return Observed(marks, hour, reasons, self.future + epoch.future, epoch.timed)

    @property
    def delay(self) -> int:
        """The largest of any partition, microseconds."""
        return max((max(mark.delay) for mark in self.marks.values()), default=0)

    def low(self, partition: int) -> int | None:
        """The low watermark of a partition, microseconds since 1970."""
        mark = self.marks.get(partition)
        return None if mark is None or not self.timed else mark.low(self.delay)

    def lowest(self, partitions: Iterable[int]) -> int | None:
        """Of all of these partitions; None where one of them has none."""
        lows = [self.low(each) for each in partitions]
        known = [each for each in lows if each is not None]
        return min(known) if known and len(known) == len(lows) else None

    def json(self) -> str:
        told = {
            "hour": self.hour,
            "future": self.future,
            "timed": self.timed,
            "reasons": dict(self.reasons),
            "marks": {
                str(p): [m.newest, m.reached, m.stamped, m.read_to, *m.disorder, *m.delay]
                for p, m in sorted(self.marks.items())
            },
        }
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Observed:
        told = json.loads(text)
        marks = {
            int(p): Mark(m[0], m[1], m[2], m[3], (m[4], m[5]), (m[6], m[7]))
            for p, m in told["marks"].items()
        }
        return cls(marks, told["hour"], told["reasons"], told["future"], told["timed"])


def _latest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
