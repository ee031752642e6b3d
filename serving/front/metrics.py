"""`/metrics`: what queries come to, and the follower's facts, as Prometheus reads them.

Names begin with `everview_`, units are seconds and bytes. Labels are names of definitions, numbers
of partitions and words of our own, never what a client or an event says. What is not known has no
line, rather than a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.envelope import Code
from serving.facts import Facts, PartitionFacts, StreamFacts, ViewFacts

PREFIX = "everview_"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OK = "ok"
# what a request is refused for before it is a query
NO_QUERY = frozenset({Code.UNAUTHORISED, Code.FOREIGN, Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED})
NO_QUERY |= {Code.NOT_ACCEPTABLE, Code.MEDIA_TYPE}
CODES = (OK, *(code.value for code in Code if code not in NO_QUERY))
KILLED = ("deadline", "died", "other")
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
Values = Mapping[Any, float | int | None]  # by a label, or by several
ASKED_WITHIN = 30.0  # seconds; of an older answer of Kafka's nothing is said

# the times at which counters were made, which nobody asks for
disable_created_metrics()  # type: ignore[no-untyped-call]


class QueryMetrics:
    """What the front counts and how long it took. Safe for several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._queries = Counter(
            f"{PREFIX}queries_total", "Queries by outcome", ["code"], registry=self.registry
        )
        self._refused = Counter(
            f"{PREFIX}refused_total",
            "Requests to any route that were answered by an error, by its code",
            ["code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}query_seconds",
            "From the arrival of a query to its answer",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._queue = Gauge(
            f"{PREFIX}queue_length", "Queries that wait for a worker", registry=self.registry
        )
        self._killed = Counter(
            f"{PREFIX}workers_killed_total",
            "Workers that were killed or died",
            ["why"],
            registry=self.registry,
        )
        for code in CODES:
            self._queries.labels(code)
        for refusal in Code:
            self._refused.labels(refusal.value)
        for why in KILLED:
            self._killed.labels(why)

    def finished(self, code: str, seconds: float) -> None:
        """A query came to an end: `OK`, or the code of its refusal."""
        self._queries.labels(code if code in CODES else Code.INTERNAL.value).inc()
        self._seconds.observe(seconds)

    def refused(self, code: Code) -> None:
        """A request, of a query or of anything else, was answered by an error."""
        self._refused.labels(code.value).inc()

    def queue(self, length: int) -> None:
        """So many queries wait."""
        self._queue.set(length)

    def killed(self, why: str) -> None:
        """A worker was ended: one of `KILLED`."""
        self._killed.labels(why if why in KILLED else "other").inc()


def render(queries: QueryMetrics, facts: Facts | None, now: float) -> bytes:
    """The page, at `now` (seconds since 1970); without facts what the front knows alone."""
    page = generate_latest(queries.registry)
    if facts is None:
        return page
    registry = CollectorRegistry()
    registry.register(_Given(families(facts, now)))
    return page + generate_latest(registry)


class _Given(Collector):
    def __init__(self, metrics: Iterator[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def families(facts: Facts, now: float) -> Iterator[Metric]:
    """The facts as gauges and counters."""
    yield _gauge("facts_age_seconds", "How old the facts below are", {(): now - facts["at"]})
    yield from _intake(facts, now)
    yield from _state(facts, now)
    yield from _batch(facts, now)
    yield from _serving(facts, now)
    yield from _law(facts)


def _intake(facts: Facts, now: float) -> Iterator[Metric]:
    streams = facts["streams"]
    asked = [each for each in streams if _asked(each, now)]
    unread = {
        (each["stream"], str(part["partition"])): part["unread"]
        for each in asked
        for part in each["partitions"]
    }
    text = "Offsets that Kafka has and no epoch counts"
    yield _gauge("lag_records", text, unread, "stream", "partition")
    text = "How long ago the first unread record came, at most; 0 where nothing is unread"
    lags = {each["stream"]: _lag(each, now) for each in asked}
    yield _gauge("lag_seconds", text, lags, "stream")
    headroom = {
        each["stream"]: each["kept_seconds"] - lag
        for each in asked
        if each["kept_seconds"] is not None and (lag := lags[each["stream"]]) is not None
    }
    text = "How long until Kafka's retention deletes the first unread record, at least"
    yield _gauge("retention_headroom_seconds", text, headroom, "stream")
    lows = {
        (each["stream"], str(part["partition"])): part["low_watermark"]
        for each in streams
        for part in each["partitions"]
    }
    text = "The smallest event time that may still come, as observed"
    yield _gauge("low_watermark_timestamp_seconds", text, lows, "stream", "partition")
    events = {
        (each["stream"], outcome): count
        for each in streams
        for outcome, count in each["events"].items()
    }
    yield _counter("events_total", "Records read, by outcome", events, "stream", "outcome")
    rejects = {
        (each["stream"], reason): count
        for each in streams
        for reason, count in each["rejects"].items()
    }
    yield _counter("rejects_total", "Rejects, by reason", rejects, "stream", "reason")
    future = {each["stream"]: each["future_events"] for each in streams}
    text = "Accepted events whose event time was still to come"
    yield _counter("future_events_total", text, future, "stream")
    seconds = {each["stream"]: each["epoch_seconds"] for each in streams}
    text = "What the newest micro-batch took, from its plan to its commit"
    yield _gauge("batch_duration_seconds", text, seconds, "stream")
    epochs = {each["stream"]: each["epoch"] for each in streams}
    yield _gauge("epoch", "The last committed epoch", epochs, "stream")


def _state(facts: Facts, now: float) -> Iterator[Metric]:
    streams = facts["streams"]
    segments = {each["stream"]: each["segments"] for each in streams}
    text = "Files of epochs that are not sealed"
    yield _gauge("segments", text, segments, "stream")
    master = {each["stream"]: each["master_bytes"] for each in streams}
    yield _gauge("master_bytes", "Sealed events on the disk", master, "stream")
    yield _gauge("files", "Files that the ledger names, by kind", facts["files"], "kind")
    disk = {(): facts["disk_free_bytes"]}
    yield _gauge("disk_free_bytes", "What the disk of the state has left", disk)
    commits = {each["stream"]: each["commit_seconds"] for each in streams}
    text = "What the ledger's transaction of the newest epoch took"
    yield _gauge("ledger_transaction_seconds", text, commits, "stream")
    yield _gauge("lease_token", "The token of a lease, held or not", facts["leases"], "name")
    ages = {each["stream"]: _age(each["unsealed_since"], now) or 0 for each in streams}
    text = "How old the first epoch is that is not sealed; 0 without one"
    yield _gauge("sealing_age_seconds", text, ages, "stream")


def _batch(facts: Facts, now: float) -> Iterator[Metric]:
    views = facts["views"]
    cuts = {each["view"]: each["cut"] for each in views}
    yield _gauge("cut", "The epoch up to which batch answers", cuts, "view")
    ages = {each["view"]: _age(each["cut_at"], now) for each in views}
    text = "How old the cut is; no line before the first publication"
    yield _gauge("batch_age_seconds", text, ages, "view")
    seconds = {each["view"]: each["build_seconds"] for each in views}
    text = "What the newest published build took"
    yield _gauge("rebuild_seconds", text, seconds, "view")
    built = {each["view"]: each["built_at"] for each in views}
    text = "When the newest publication was made"
    yield _gauge("rebuild_last_success_timestamp_seconds", text, built, "view")
    failed = {each["view"]: each["proof_failures"] for each in views}
    text = "Builds that their proof refused"
    yield _counter("proof_failures_total", text, failed, "view")
    published = {each["view"]: each["publications"] for each in views}
    yield _counter("publications_total", "Publications", published, "view")


def _serving(facts: Facts, now: float) -> Iterator[Metric]:
    fresh = {each["view"]: _age(each["fresh_at"], now) for each in facts["views"]}
    text = "How long ago everything that was in Kafka was in the answers"
    yield _gauge("freshness_seconds", text, fresh, "view")
    load = {(): facts["load_seconds"]}
    yield _gauge("load_seconds", "What the newest load of the follower took", load)
    damaged = {(): facts["damaged_files"]}
    text = "Damaged files that were met since the start"
    yield _counter("damaged_files_total", text, damaged)


def _law(facts: Facts) -> Iterator[Metric]:
    gaps = {each["view"]: each["gaps"] for each in facts["views"]}
    yield _gauge("handoff_gaps", "Offsets in neither layer; must be 0", gaps, "view")
    doubles = {each["view"]: each["doubles"] for each in facts["views"]}
    text = "Offsets in both layers; must be 0"
    yield _gauge("handoff_doubles", text, doubles, "view")
    wrong = {each["view"]: each["mismatches"] for each in facts["views"]}
    text = "Answers that verify found to differ from the recount; must be 0"
    yield _counter("verify_mismatch_total", text, wrong, "view")


def freshness(view: ViewFacts, now: float) -> float | None:
    """How old a view's answers are at most, seconds; None before there are any."""
    return _age(view["fresh_at"], now)


def _asked(stream: StreamFacts, now: float) -> bool:
    """Whether Kafka answered lately."""
    return stream["asked_at"] is not None and now - stream["asked_at"] <= ASKED_WITHIN


def _lag(stream: StreamFacts, now: float) -> float | None:
    """Of the partition that is most behind; None where one is behind and nothing of it was read."""
    behind = [_behind(each, now) for each in stream["partitions"] if each["unread"]]
    known = [each for each in behind if each is not None]
    return max(known, default=0.0) if len(known) == len(behind) else None


def _behind(partition: PartitionFacts, now: float) -> float | None:
    return _age(partition["counted_to"], now)


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - at)


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"{PREFIX}{name}", text, labels=labels), values)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"{PREFIX}{name}", text, labels=labels), values)


def _filled(family: Any, values: Values) -> Metric:
    for labels, value in values.items():
        if value is not None:
            family.add_metric((labels,) if isinstance(labels, str) else labels, value)
    metric: Metric = family
    return metric
