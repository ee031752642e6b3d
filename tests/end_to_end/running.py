"""A stack that was brought up by the command line, as a user would, and its topics."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition

WAIT = 180.0


@dataclass(eq=False)
class Background(threading.Thread):
    """Works beside a test until it is stopped; `run` looks at `stopping`."""

    stopping: threading.Event = field(default_factory=threading.Event, kw_only=True)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stops it, wherever it is; one that never began stays so."""
        self.stopping.set()
        if self.is_alive():
            self.join(60)
        assert not self.is_alive()


@dataclass
class Stack:
    """A project, its state, and what `status` last told."""

    project: Path
    state: Path
    status: dict[str, Any] = field(default_factory=dict)

    def everview(self, *words: str) -> list[str]:
        where = ["--project", str(self.project), "--state", str(self.state)]
        return [sys.executable, "-m", "infra", words[0], *where, *words[1:]]

    def run(self, *words: str) -> str:
        done = subprocess.run(self.everview(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *words: str) -> None:
        self.run("up", "--detach", *words)
        self.look()

    def look(self) -> dict[str, Any]:
        """What `status` tells, whether all is ready or not."""
        done = subprocess.run(
            self.everview("status", "--json"), capture_output=True, text=True, check=False
        )
        self.status = json.loads(done.stdout)
        return self.status

    def ask(self, sql: str) -> dict[str, Any]:
        request = urllib.request.Request(
            self.status["serving"]["http"] + "/sql",
            json.dumps({"sql": sql, "max_rows": 100_000}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def consumer(self, topic: str) -> tuple[KafkaConsumer, list[TopicPartition]]:
        reader = KafkaConsumer(
            bootstrap_servers=self.status["kafka"]["bootstrap_servers"], group_id=None
        )
        found = [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic))]
        reader.assign(found)
        return reader, found

    def ends(self, topic: str) -> dict[int, int]:
        """Where the topic ends now."""
        reader, partitions = self.consumer(topic)
        try:
            return {each.partition: end for each, end in reader.end_offsets(partitions).items()}
        finally:
            reader.close()

    def records(self, topic: str) -> dict[tuple[int, int], str]:
        """The topic by partition and offset, read by a plain consumer."""
        records: dict[tuple[int, int], str] = {}
        reader, partitions = self.consumer(topic)
        try:
            reader.seek_to_beginning(*partitions)
            until = reader.end_offsets(partitions)
            while any(reader.position(each) < until[each] for each in partitions):
                for found in reader.poll(1000).values():
                    for record in found:
                        records[record.partition, record.offset] = record.value.decode()
        finally:
            reader.close()
        return records


def position(answer: Mapping[str, Any]) -> dict[int, int]:
    """What the one view of an answer covers."""
    (covered,) = answer["coverage"]
    return {int(partition): offset for partition, offset in covered["position"].items()}


def wait_until(
    condition: Callable[[], bool], what: str, within: float = WAIT, every: float = 0.1
) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"waited {within:g} s for {what}"
        time.sleep(every)
