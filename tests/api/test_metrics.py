"""`/metrics` and `/readyz` over a made world: each figure is what was made, and each has its row in
docs/operations.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.ledger import builds, leases
from schemas.ledger.builds import build_lease
from schemas.ledger.figures import Figures, differed, figures
from schemas.ledger.instant import ZERO
from schemas.segment import SegmentReader
from serving.envelope import Code
from serving.facts import Facts
from serving.follower.facts import Facting, facts
from serving.front.metrics import CODES, KILLED, NO_QUERY, PREFIX, QueryMetrics, render
from serving.front.watch import Limits, Watch
from tests.api.test_follow import rows
from tests.api.world import START, Served, World, ask, serving

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
BEGIN = "<!-- written by: pytest --update-golden tests/api/test_metrics.py -->\n"
END = "<!-- end -->\n"
NOW = START + timedelta(minutes=30)
ASKED = NOW - timedelta(seconds=2)

Samples = dict[tuple[str, ...], float]  # by name and values of labels


def seconds(instant: datetime) -> float:
    return (instant - ZERO).total_seconds()


def read(page: bytes) -> Samples:
    """Labels in the order of stream, reason, partition, outcome."""
    return {
        (sample.name.removeprefix(PREFIX), *dict(sorted(sample.labels.items())[::-1]).values()): (
            sample.value
        )
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@dataclass
class Measured:
    world: World
    served: Served

    def tell(self, ends: dict[str, int], kept_ms: int | None, asked: datetime = ASKED) -> None:
        """What streaming would report."""
        logs = {"at": asked.isoformat(), "ends": ends, "kept_ms": kept_ms}
        stream = {"epoch_seconds": 0.25, "commit_seconds": 0.02, "logs": logs}
        report = self.world.state / "run" / "streaming.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps({"streams": {"hits": stream}}))

    def facts(self, now: datetime = NOW) -> Facts:
        found = figures(self.world.ledger)
        made = facts(self.served.follower, found, self.world.state, now)
        told: Facts = json.loads(json.dumps(made))
        assert told == made
        return told

    def samples(self, now: datetime = NOW) -> Samples:
        return read(render(QueryMetrics(), self.facts(now), seconds(now)))

    def of(self, found: Figures) -> Facts:
        """The facts of other figures than the ledger's."""
        return facts(self.served.follower, found, self.world.state, NOW)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Epochs 1 and 2 sealed, `by_key` published at 2, and once refused; 3 not sealed. Of 49 offsets
    3 were rejects, and 1 event is of the future."""
    world = World(tmp_path_factory.mktemp("measured"))
    world.epoch(rows(1, 20))
    world.epoch([*rows(2, 20), b"no json", b'{"n": "x"}', b"none"])
    world.seal()
    world.build("by_key")
    _refuse(world, "by_key")
    tomorrow = (START + timedelta(days=1)).replace(tzinfo=None)
    world.epoch([{"k": "a", "n": 1, "moment": tomorrow}, *rows(3, 5)])
    differed(world.ledger, "by_key", 2, 2, 7, START)
    served = Served(world.state)
    served.catch_up()
    return Measured(world, served)


def _refuse(world: World, view: str) -> None:
    holder = leases.Holder("here", 1, 0.0)
    name, ttl = build_lease(view), timedelta(hours=1)
    lease = leases.take(world.ledger, name, holder, world.now, ttl, alive=lambda _: False)
    build = builds.begin(world.ledger, view, lease, world.now, full=True)
    builds.finish(world.ledger, build.id, lease.token, [], world.now)
    builds.prove(world.ledger, build.id, lease.token, "refused", {}, world.now)
    leases.release(world.ledger, lease)


def test_each_figure_is_what_was_made(made: Measured) -> None:
    made.tell({"0": 49, "1": 8}, 3_600_000)
    found, world = made.samples(), made.world
    published = START + timedelta(minutes=2)  # a tick for sealing, one for the build
    runs = list((world.state / "runs").rglob("*.parquet"))
    reasons = Counter(
        str(reason)
        for path in (world.state / "segments").rglob("*.zip")
        for reason in SegmentReader(path.read_bytes(), path.name).rejects()["_reason"].to_pylist()
    )
    assert sum(reasons.values()) == 3
    expected: Samples = {
        ("facts_age_seconds",): 0,
        ("lag_records", "hits", "0"): 0,
        ("lag_records", "hits", "1"): 8,
        ("low_watermark_timestamp_seconds", "hits", "0"): _low(made),
        ("events_total", "hits", "counted"): 46,
        ("events_total", "hits", "duplicate"): 0,
        ("events_total", "hits", "rejected"): 3,
        **{("rejects_total", "hits", why): count for why, count in reasons.items()},
        ("future_events_total", "hits"): 1,
        ("batch_duration_seconds", "hits"): 0.25,
        ("ledger_transaction_seconds", "hits"): 0.02,
        ("epoch", "hits"): 3,
        ("segments", "hits"): 1,
        ("files", "segment"): 1,
        ("files", "run"): len(runs) - 1,  # that of by_key stopped counting when it was published
        ("lease_token", "stream/hits"): world.lease.token,
        ("lease_token", "build/by_key"): 2,
        ("sealing_age_seconds", "hits"): seconds(NOW) - seconds(START + timedelta(seconds=3)),
        ("cut", "by_key"): 2,
        ("cut", "keys"): 0,
        ("batch_age_seconds", "by_key"): seconds(NOW) - seconds(START + timedelta(seconds=2)),
        ("rebuild_last_success_timestamp_seconds", "by_key"): seconds(published),
        ("proof_failures_total", "by_key"): 1,
        ("proof_failures_total", "keys"): 0,
        ("publications_total", "by_key"): 1,
        ("publications_total", "keys"): 0,
        ("freshness_seconds", "by_key"): seconds(NOW) - seconds(START + timedelta(seconds=3)),
        ("damaged_files_total",): 0,
        ("handoff_gaps", "by_key"): 0,
        ("handoff_doubles", "by_key"): 0,
        ("verify_mismatch_total", "by_key"): 1,
        ("verify_mismatch_total", "keys"): 0,
        ("queue_length",): 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert len(runs) >= 6
    assert found["load_seconds",] > 0
    assert found["disk_free_bytes",] > 0
    # nothing of partition 1 was ever read: how long its records wait cannot be known
    unknown = {"lag_seconds", "retention_headroom_seconds", "batch_age_seconds"}
    assert {name for name in found if name[0] in unknown} == {("batch_age_seconds", "by_key")}


def test_duplicates_are_not_among_the_accepted(made: Measured) -> None:
    found = figures(made.world.ledger)
    stream = replace(found.streams["hits"], accepted=40, duplicates=4, rejected=2)
    told = made.of(replace(found, streams={"hits": stream}))
    assert told["streams"][0]["events"] == {"counted": 36, "duplicate": 4, "rejected": 2}


def test_what_is_none_in_this_world_has_its_own_figure(made: Measured) -> None:
    """It seals its runs alone, and its clock stands still while it builds."""
    found = figures(made.world.ledger)
    stream = replace(found.streams["hits"], master_bytes=7)
    view = replace(found.views["by_key"], build_seconds=12.5)
    told = made.of(replace(found, streams={"hits": stream}, views={**found.views, "by_key": view}))
    samples = read(render(QueryMetrics(), told, seconds(NOW)))
    assert samples["master_bytes", "hits"] == 7
    assert samples["rebuild_seconds", "by_key"] == 12.5


def _low(made: Measured) -> float:
    ((low,),) = made.served.rows("SELECT epoch_us(low_watermark) FROM everview.freshness")
    assert low is not None
    return float(low) / 1e6


LAGS = {
    # the ends of the logs, how long Kafka keeps records -> lag, headroom, freshness (at ASKED)
    "all is read": ({"0": 49}, 60_000, 0, 60, 2),
    "all is read, and kept for ever": ({"0": 49}, None, 0, None, 2),
    # the first unread record came after the log was read to its end, with the third epoch
    "behind": ({"0": 50}, 3_600_000, 30 * 60 - 3, 1803, 30 * 60 - 3),
}


@pytest.mark.parametrize("case", LAGS)
def test_lag_and_what_follows_from_it(made: Measured, case: str) -> None:
    ends, kept, lag, headroom, fresh = LAGS[case]
    made.tell(ends, kept)
    found = made.samples()
    assert found["lag_seconds", "hits"] == lag
    assert found.get(("retention_headroom_seconds", "hits")) == headroom
    assert found["freshness_seconds", "by_key"] == fresh
    # an answer of Kafka's that is old says nothing of now, and what was fresh has aged
    later = made.samples(NOW + timedelta(minutes=1))
    gone = {"lag_records", "lag_seconds", "retention_headroom_seconds"}
    assert not {name for name in later if name[0] in gone}
    assert later["freshness_seconds", "by_key"] == fresh + 60


def test_without_a_report_of_streaming_or_with_half_of_one(made: Measured) -> None:
    report = made.world.state / "run" / "streaming.json"
    report.parent.mkdir(exist_ok=True)
    report.write_text('{"streams": {')
    found = made.samples()
    assert ("lag_seconds", "hits") not in found
    assert found["epoch", "hits"] == 3
    assert found["freshness_seconds", "by_key"] == 30 * 60 - 3


def test_gaps_damage_and_old_facts_show(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path)
    world.epoch(rows(1, 4))
    world.epoch(rows(2, 4))
    served = Served(world.state)
    served.catch_up()
    stream = served.follower._streams["hits"]
    view = stream.views["keys"]
    assert view.serves is not None
    spans = {name: replace(each, doubles=3) for name, each in view.serves.handoff.tables.items()}
    handoff = replace(view.serves.handoff, tables=spans)
    torn = stream.with_view(replace(view, serves=replace(view.serves, handoff=handoff)))
    served.follower._streams = {"hits": torn}
    world.epoch(rows(3, 4))
    (damaged,) = (
        path for path in (world.state / "segments").rglob("*.zip") if path.name.startswith("3-")
    )
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    for _ in range(3):
        served.step()
    (said,) = (each for each in caplog.records if each.name == "serving")
    assert said.__dict__["fields"] == {"stream": "hits", "epoch": 2}
    assert damaged.name in said.getMessage()
    assert str(world.state) not in said.getMessage()
    told: list[Facts] = []
    facting = Facting(served.follower, lambda: world.ledger, world.state, lambda: NOW, told.append)
    facting.step()
    found = read(render(QueryMetrics(), told[-1], seconds(NOW) + 40))
    assert found["damaged_files_total",] == 1
    assert found["handoff_doubles", "keys"] == 3
    assert found["facts_age_seconds",] == 40
    assert Limits().unready(told[-1], seconds(NOW) + 40) == [
        "nothing could be measured for more than 30 s"
    ]


def test_what_the_front_counts() -> None:
    counted = QueryMetrics()
    counted.finished("ok", 0.002)
    counted.finished(Code.DEADLINE.value, 9.0)
    counted.finished("<script>", 0.5)
    counted.queue(5)
    counted.killed("died")
    counted.killed("a reason that a client chose")
    found = read(render(counted, None, 0.0))
    assert {name[1]: n for name, n in found.items() if name[0] == "queries_total"} == {
        **dict.fromkeys(CODES, 0.0),
        "ok": 1.0,
        "deadline": 1.0,
        "internal": 1.0,
    }
    assert {name[1]: n for name, n in found.items() if name[0] == "workers_killed_total"} == {
        **dict.fromkeys(KILLED, 0.0),
        "died": 1.0,
        "other": 1.0,
    }
    assert found["query_seconds_count",] == 3
    assert found["query_seconds_bucket", "0.003"] == 1
    assert found["query_seconds_bucket", "1.0"] == 2
    assert found["query_seconds_bucket", "+Inf"] == 3
    assert found["queue_length",] == 5


# limits, whether everything in Kafka is read -> the reason
READY: dict[str, tuple[Limits, dict[str, int], str | None]] = {
    "as it is": (Limits(), {"0": 60}, None),
    "fresh": (Limits(freshness=5), {"0": 49}, None),
    "not fresh": (Limits(freshness=5), {"0": 60}, "its answers are more than 5 s old"),
    "disk": (Limits(disk_floor=1 << 60), {"0": 49}, "less than its floor of 1,099,511,627,776 MiB"),
}


@pytest.mark.parametrize("case", READY)
def test_ready_means_within_the_limits(made: Measured, case: str) -> None:
    limits, ends, reason = READY[case]
    made.tell(ends, None)
    watch = Watch(lambda: seconds(NOW), lambda: 0.0, limits)
    watch.tell(made.facts())
    with serving(made.served, watch=watch) as client:
        ready, healthy = client.get("/readyz"), client.get("/healthz")
    assert healthy.status_code == 200
    assert ready.status_code == (200 if reason is None else 503), ready.text
    assert reason is None or reason in ready.json()["error"]["message"]


def test_queries_are_counted_behind_the_route(made: Measured) -> None:
    watch = Watch(lambda: seconds(NOW), lambda: 0.0)
    watch.tell(made.facts())
    with serving(made.served, watch=watch) as client:
        assert ask(client, "FROM keys").status_code == 200
        assert ask(client, "FROM nowhere").status_code == 404
        assert ask(client, "SELEC 1").status_code == 400
        assert ask(client, "SELECT 1", nonsense=1).status_code == 400
        assert client.post("/sql", data={"sql": "SELECT 1"}).status_code == 415
        assert client.get("/sql?q=x", headers={"Accept": "text/html"}).status_code == 406
        assert client.get("/views", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.delete("/sql").status_code == 405
        assert client.get("/nope").status_code == 404
        assert client.get("/views", headers={"X": "x" * 300_000}).status_code == 413
        answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = read(answer.content)
    codes = {name[1]: n for name, n in found.items() if name[0] == "queries_total" and n}
    assert codes == {"ok": 1, "unknown_view": 1, "bad_sql": 1}
    refused = {name[1]: n for name, n in found.items() if name[0] == "refused_total" and n}
    alone = ("bad_request", "media_type", "not_acceptable", "foreign", "method_not_allowed")
    assert refused == dict.fromkeys(
        ("unknown_view", "bad_sql", *alone, "not_found", "too_large"), 1
    )
    assert not {name[1] for name in found if name[0] == "queries_total"} & NO_QUERY
    assert found["epoch", "hits"] == 3


def table(page: bytes) -> str:
    """A row per metric of a page, as docs/operations.md has it."""
    lines = ["| metric | labels | what it is |", "|---|---|---|"]
    for family in text_string_to_metric_families(page.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label: None for each in family.samples for label in each.labels if label != "le"}
        listed = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {listed} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_what_there_is(made: Measured, request: pytest.FixtureRequest) -> None:
    made.tell({"0": 49}, 60_000)
    page = render(QueryMetrics(), made.facts(), seconds(NOW))
    written = f"\n{table(page)}"
    before, told = PAGE.read_text(encoding="utf-8").split(BEGIN)
    found, after = told.split(END)
    if request.config.getoption("--update-golden"):
        PAGE.write_text(f"{before}{BEGIN}{written}{END}{after}", encoding="utf-8")
        return
    assert found == written
    families = list(text_string_to_metric_families(page.decode()))
    assert all(family.samples for family in families), "a family without a sample has no labels"
    # those that operators are promised, and their alerts
    for name in PROMISED:
        assert f"`{PREFIX}{name}`" in found, name
    named = _named(before + after)
    assert len(named) >= 5
    for name in named:
        assert f"`{name}`" in found, name


def _named(text: str) -> list[str]:
    """The metrics that a text speaks of."""
    return re.findall(rf"{PREFIX}\w+", text)


PROMISED = (
    *("lag_records", "lag_seconds", "retention_headroom_seconds", "events_total", "rejects_total"),
    *("future_events_total", "batch_duration_seconds", "epoch"),
    *("segments", "master_bytes", "files", "disk_free_bytes", "ledger_transaction_seconds"),
    *("lease_token", "sealing_age_seconds", "cut", "batch_age_seconds", "rebuild_seconds"),
    *("rebuild_last_success_timestamp_seconds", "proof_failures_total", "publications_total"),
    *("freshness_seconds", "queries_total", "query_seconds", "queue_length"),
    *("workers_killed_total", "refused_total", "load_seconds", "damaged_files_total"),
    *("handoff_gaps", "handoff_doubles", "verify_mismatch_total"),
)
