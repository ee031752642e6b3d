"""Sends the feed to its topic, from where the topic ends on."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from feed import Feed

from infra.files import locked
from infra.sending import Pace, Refused, Sender, ends, last_values
from schemas.errors import BrokerUnreachable, EverviewError, TopicNotThere

TOPIC = "flights"
TOPIC_WITHIN = 60.0
STILL, STILL_LOOKS = 0.2, 25
AGAIN_AFTER = 1.0


class OtherRecords(EverviewError):
    """A topic holds something else than the feed."""

    def __init__(self, why: str) -> None:
        text = (
            f"topic {TOPIC!r} must hold the records of the demo and nothing else; {why}. "
            "Start on another state: make demo after `rm -r examples/flights/.everview`"
        )
        super().__init__(text)


class DemoRuns(EverviewError):
    """Another demo sends already."""

    def __init__(self, state: Path, pid: str) -> None:
        super().__init__(f"one demo may run on {str(state)!r}; process {pid} is one. End it first")


class Feeding(threading.Thread):
    """Sends at a steady rate until it is stopped; `trouble` says why nothing goes out, if so.

    A broker that is gone is waited for. How far the feed is stands in the topic alone.
    """

    def __init__(self, flights: Sequence[bytes], servers: str, rate: float) -> None:
        super().__init__(name="feed", daemon=True)
        self._flights, self._servers, self._rate = flights, servers, rate
        self._stopping = threading.Event()
        self.trouble = ""
        self.sent = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._send()
            except (BrokerUnreachable, TopicNotThere) as error:
                self.trouble = str(error)
                self._stopping.wait(AGAIN_AFTER)
            except EverviewError as error:
                self.trouble = f"nothing is sent any more: {error}"
                return

    def stop(self, within: float) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(within)

    def _send(self) -> None:
        place = _still(self._servers)
        feed = Feed(self._flights, len(place))
        for (partition, offset), value in last_values(self._servers, TOPIC, TOPIC_WITHIN).items():
            if feed.record(feed.number(partition, offset)).value != value:
                why = f"record {offset} of partition {partition} is another one"
                raise OtherRecords(why)
        pace = Pace(self._rate, time.monotonic())
        before = self.sent
        with Sender(self._servers, TOPIC, _refused) as sender:
            for record in feed.behind(place):
                if self._stopping.is_set():
                    break
                pace.wait()
                sender.send(f"record {record.number}", record.value, feed.partition(record.number))
                self.trouble, self.sent = "", before + sender.acknowledged
            sender.finish()
            self.sent = before + sender.acknowledged


def _still(servers: str) -> dict[int, int]:
    """Where the partitions end, once nothing more arrives from a sender that was killed."""
    place = ends(servers, TOPIC, TOPIC_WITHIN)
    for _ in range(STILL_LOOKS):
        time.sleep(STILL)  # the broker does not tell what it still has to write
        before, place = place, ends(servers, TOPIC, TOPIC_WITHIN)
        if before == place:
            return place
    why = "somebody else sends to it at this moment"
    raise OtherRecords(why)


def _refused(record: Refused) -> None:
    """A hole in the feed would move every record behind it."""
    why = f"{record.place} was refused: {record.why}"
    raise OtherRecords(why)


def only_demo(state: Path) -> AbstractContextManager[None]:
    """Holds the lock of the demo on a state while the block runs. Raises DemoRuns."""
    return locked(state / "run" / "demo.lock", lambda pid: DemoRuns(state, pid))
