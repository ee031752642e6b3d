"""A topic that is a folder: what a broker has, and the log of what it acknowledged.

    topic.json      id, and per partition the first offset that is still there
    records.jsonl   partition, offset, value; a gap where a marker or an aborted record was
    ack.jsonl       topic id, partition, offset, sha256 of the value, what its producer meant by it

The log is append-only and fsynced before `send` returns, so another process may go on from it. What
a producer meant is None for bytes that must be rejected.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming.topics import TopicFacts


@dataclass(frozen=True)
class Event:
    """The bytes of a record, and what they mean: a JSON value per column, or None for a reject."""

    value: bytes | None
    meant: Mapping[str, Any] | None


@dataclass(frozen=True)
class Record:
    """What a consumer that reads committed records gets."""

    partition: int
    offset: int
    value: bytes | None


@dataclass(frozen=True)
class Ack:
    """A line of the acknowledgement log."""

    topic_id: str
    partition: int
    offset: int
    sha256: str
    meant: Mapping[str, Any] | None


def digest(value: bytes | None) -> str:
    """Of a value; no value has a name of its own."""
    return "none" if value is None else hashlib.sha256(value).hexdigest()


class Topic:
    """One topic. Stands in for `streaming.topics.Topics` too."""

    def __init__(self, folder: Path, partitions: int = 2) -> None:
        self.folder = folder
        self.away: BaseException | None = None  # what every question is answered by
        if not (folder / "topic.json").exists():
            folder.mkdir(parents=True)
            self._write(uuid.uuid4().hex, dict.fromkeys(range(partitions), 0))
            for name in ("records.jsonl", "ack.jsonl"):
                (folder / name).touch()
        told = json.loads((folder / "topic.json").read_text())
        self.id: str | None = told["id"]
        self.starts = {int(each): start for each, start in told["starts"].items()}
        self.records: dict[tuple[int, int], Record] = {}
        self.ends = dict.fromkeys(self.starts, 0)
        for line in (folder / "records.jsonl").read_text().splitlines():
            self._take(json.loads(line))

    # what producers and operators do

    def send(self, partition: int, *events: Event) -> None:
        """Append these, acknowledged when this returns."""
        records, acks = [], []
        for offset, event in enumerate(events, self.ends[partition]):
            value = None if event.value is None else base64.b64encode(event.value).decode()
            records.append([partition, offset, "record", value])
            acks.append([self.id, partition, offset, digest(event.value), event.meant])
        self._append("records.jsonl", records)
        self._append("ack.jsonl", acks)
        for line in records:
            self._take(line)

    def skip(self, partition: int, count: int = 1) -> None:
        """Offsets that no consumer sees: markers, aborted or compacted records."""
        first = self.ends[partition]
        lines: list[list[Any]] = [
            [partition, offset, "gap", None] for offset in range(first, first + count)
        ]
        self._append("records.jsonl", lines)
        for line in lines:
            self._take(line)

    def delete_before(self, partition: int, offset: int) -> None:
        """What retention does."""
        self.starts[partition] = offset
        self._write(str(self.id), self.starts)

    def recreate(self, partitions: int = 2) -> None:
        """Delete the topic and make one of that name; the log of the old one stays."""
        (self.folder / "records.jsonl").write_text("")
        self.records, self.starts = {}, dict.fromkeys(range(partitions), 0)
        self.ends = dict(self.starts)
        self.id = uuid.uuid4().hex
        self._write(self.id, self.starts)

    def add_partition(self) -> int:
        """The number of a new one."""
        number = len(self.starts)
        self.starts[number] = self.ends[number] = 0
        self._write(str(self.id), self.starts)
        return number

    # what consumers and tests read

    def between(self, partition: int, start: int, until: int) -> list[Record]:
        """The records in a range of offsets."""
        found = (self.records.get((partition, offset)) for offset in range(start, until))
        return [each for each in found if each is not None]

    def acks(self) -> list[Ack]:
        """The whole log, of every topic that had this name."""
        lines = (self.folder / "ack.jsonl").read_text().splitlines()
        return [Ack(*json.loads(line)) for line in lines]

    # as `Topics`

    def facts(self, _topic: str) -> TopicFacts | None:
        self._answer()
        return None if self.id is None else TopicFacts(self.id, tuple(sorted(self.starts)))

    def log_starts(self, _topic: str, partitions: Iterable[int]) -> dict[int, int]:
        self._answer()
        return {each: self.starts[each] for each in partitions}

    def close(self) -> None:
        pass

    def _answer(self) -> None:
        if self.away is not None:
            raise self.away

    def _take(self, line: list[Any]) -> None:
        partition, offset, kind, value = line
        if kind == "record":
            decoded = None if value is None else base64.b64decode(value)
            self.records[partition, offset] = Record(partition, offset, decoded)
        self.ends[partition] = offset + 1

    def _append(self, name: str, lines: list[list[Any]]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def _write(self, topic_id: str, starts: Mapping[int, int]) -> None:
        text = json.dumps({"id": topic_id, "starts": dict(starts)})
        (self.folder / "topic.json").write_text(text)
