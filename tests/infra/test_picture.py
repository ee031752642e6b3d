"""What the demo draws fits a terminal of 100 columns and 35 lines, and tells every fact."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import demo
import duckdb
import pytest
from look import COUNTS, Counts, LastProof, Look
from picture import airlines_per_day, drawn, facts, line
from rich.console import Console

NOW = datetime(2026, 1, 1, 10, 0, 12, tzinfo=UTC)
EACH = airlines_per_day(35)
LONGEST = "AirTran Airways Corporation"
ROWS = [
    [f"2013-03-{day}", LONGEST, 168, 100.0, 1234.4, None, 140, ["IAH", "ORD", "SFO"]]
    for day in (14, 13, 12)
    for _ in range(EACH)
]
PROOF = LastProof("carrier_day", "equal: " + "words of a proof " * 8, NOW - timedelta(seconds=7))
COVERAGE = {
    "cut": 118,
    "epoch": 312,
    "fresh_as_of": "2026-01-01T10:00:10.500Z",
    "degraded": None,
}
SEEN = Look(
    at=NOW,
    clock=20.0,
    flights=9_700,
    day=date(2013, 3, 14),
    rows=ROWS,
    coverage=COVERAGE,
    counts=Counts(events=10_000, in_batch=8_300, duplicates=200, rejects=100, sealed=200),
    proof=PROOF,
    publications=1,
)
BEFORE = replace(SEEN, clock=15.0, counts=replace(SEEN.counts, events=8_000))
ADDRESSES = {
    "queries": "http://127.0.0.1:65535/sql",
    "Airflow": "http://127.0.0.1:65535, user admin, password 0123456789abcdef",
    "Kafka": "127.0.0.1:65535, topic flights",
    "try": '.venv/bin/everview sql --project examples/flights "SELECT * FROM origin_weather"',
}


def shown(seen: Look) -> list[str]:
    console = Console(width=100, height=35, file=io.StringIO(), record=True)
    told = facts(seen, BEFORE, "", "everything through Airflow, running for 12 s")
    console.print(drawn(seen, told, ADDRESSES, ["one line of the stack", "another"]))
    return console.export_text().splitlines()


def test_it_fits_and_cuts_nothing() -> None:
    lines = shown(SEEN)
    text = "\n".join(lines)

    assert EACH == 5
    assert len(lines) <= 34  # and the line of the cursor
    assert "…" not in text
    assert text.count(LONGEST) == text.count("1234 min") == text.count("IAH ORD SFO") == 3 * EACH
    assert all(any(address in each for each in lines) for address in ADDRESSES.values())


def test_it_tells_rate_age_layers_and_proof() -> None:
    told = facts(SEEN, BEFORE, "", "none yet")

    assert told["events"] == (
        "400/s, epoch 312, the newest 1.5 s old: 9,700 flights, 200 duplicates, 100 rejects"
    )
    assert told["answer"] == (
        "carrier_day: 83.0 % from batch, epochs 1 to 118; 17.0 % from speed, to 312"
    )
    assert told["proof"].startswith("carrier_day, 7 s ago, equal: words")
    assert "sending" not in told
    assert line(SEEN, told).startswith("up to 14 March 2013; events: 400/s")


def test_before_any_flight_it_says_so() -> None:
    nothing = {"cut": 0, "epoch": 0, "fresh_as_of": None, "degraded": "the stream stopped"}
    seen = replace(SEEN, day=None, rows=[], coverage=nothing, proof=None)

    told = facts(seen, seen, "the broker is gone", "none yet")

    assert "no event yet" in told["events"]
    assert told["answer"] == "carrier_day: all from speed, to epoch 0; no batch view yet"
    assert (told["sending"], told["degraded"]) == ("the broker is gone", "the stream stopped")
    assert len(shown(seen)) < 20


def test_repeats_are_among_what_was_accepted() -> None:
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA everview")
    connection.execute(
        "CREATE TABLE everview.epochs AS SELECT 'flights' AS stream, unnest([1, 2]) AS last_epoch, "
        "last_epoch = 1 AS sealed, 10 AS accepted, 4 AS duplicates, 3 AS rejected"
    )

    found = connection.execute(COUNTS, {"cut": 1}).fetchall()

    assert found == [(26, 13, 8, 6, 1)]


@pytest.mark.parametrize(("publications", "told"), [((3, 3), False), ((3, 3, 4), True)])
def test_the_first_publication_is_one_of_this_run(
    monkeypatch: pytest.MonkeyPatch, publications: Sequence[int], told: bool
) -> None:
    looks = [replace(SEEN, publications=each) for each in publications]

    def seen(*_: object) -> Look:
        if not looks:
            raise KeyboardInterrupt
        return looks.pop(0)

    monkeypatch.setattr(demo, "look", seen)
    monkeypatch.setattr(demo, "LOOK_EVERY", 0)
    monkeypatch.setattr("infra.asking.of", lambda _: None)
    monkeypatch.setattr("infra.stack.read", lambda _: None)
    part: Any = SimpleNamespace(said=[], trouble="", words="", turn=lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        demo.Watch(Path(), part, part, part, 0.0).run()

    assert any(each.startswith("first publication after") for each in part.said) == told
