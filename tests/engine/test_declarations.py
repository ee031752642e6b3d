"""A stream whose declaration changes while it has epochs: what was accepted stays, and each version
of a view reads all of it by its own declaration.

The oracle types the events itself, by the declaration that the view was registered under.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import registered
from schemas.ledger import versions
from schemas.ledger.sealing import sealed_ranges
from tests.engine.batching import ordered
from tests.engine.live import Live
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

NARROW = """CREATE STREAM hits (id BIGINT PRIMARY KEY, k VARCHAR, n INTEGER CHECK (n >= 0))
WITH (topic = 'hits', format = 'json');
"""
WIDE = """CREATE STREAM hits (
    id BIGINT PRIMARY KEY, k VARCHAR, n BIGINT CHECK (n >= -1000), extra VARCHAR
) WITH (topic = 'hits', format = 'json');
"""
BY_KEY = "CREATE VIEW by_key AS SELECT k, count(*) AS hits, sum(n) AS total FROM hits GROUP BY k;\n"
COUNT = "CREATE VIEW everything AS SELECT count(*) AS hits, count(k) AS known FROM hits;\n"
EXTRA = "CREATE VIEW extras AS SELECT extra, count(*) AS hits, max(n) AS high FROM hits GROUP BY 1;"
SELECTS = {
    each.split()[2]: each.partition(" AS ")[2].rstrip(";\n") for each in (BY_KEY, COUNT, EXTRA)
}
NARROW_COLUMNS = [("id", "BIGINT"), ("k", "VARCHAR"), ("n", "INTEGER")]
WIDE_COLUMNS = [("id", "BIGINT"), ("k", "VARCHAR"), ("n", "BIGINT"), ("extra", "VARCHAR")]
LIMIT = 2**31

Event = dict[str, Any]


def hit(number: int, **values: Any) -> Event:
    return {"id": number, "k": "a", **values}


def sent(events: Sequence[Event]) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def answer(view: str, columns: list[tuple[str, str]], events: Sequence[Event]) -> list[Any]:
    """The view's own SELECT over events that count, typed as told; an id counts once."""
    own = Oracle()
    once = {event["id"]: event for event in reversed(events)}.values()
    rows = [{name: event.get(name) for name, _ in columns} for event in once]
    own.fill("hits", columns, rows)
    return ordered(own.answer(SELECTS[view]))


@pytest.fixture
def live(state: Path) -> Iterator[Live]:
    made = Live(state)
    made.declare(NARROW, BY_KEY, COUNT)
    made.start()
    yield made
    made.ledger.close()


def test_an_old_version_answers_until_the_new_one_has_read_everything_anew(live: Live) -> None:
    before = [hit(1, n=5, extra="x"), hit(2, n=7), hit(2, n=7)]
    live.epoch(*sent(before))
    live.declare(WIDE, BY_KEY, COUNT, EXTRA)
    after = [hit(3, n=2**40), hit(4, n=-5, k="b"), hit(5, n=1, extra="y"), hit(1, n=9)]
    live.epoch(*sent(after))

    # the old version of by_key leaves out what its INTEGER cannot hold, and takes what its CHECK
    # would not have accepted: what a stream accepts is not how it is read
    kept = [*before, *(each for each in after if abs(each["n"]) < LIMIT)]
    assert live.answer("FROM by_key") == answer("by_key", NARROW_COLUMNS, kept)
    assert live.answer("FROM everything") == answer("everything", WIDE_COLUMNS, [*before, *after])
    (by_key,) = (row for row in versions.views(live.ledger) if row.name == "by_key")
    (everything,) = (row for row in versions.views(live.ledger) if row.name == "everything")
    assert by_key.wanted not in (None, by_key.version)
    assert everything.wanted is None  # it names no column that changed, so it is the same version
    assert live.verified()["by_key"] == live.verified()["everything"] == 0

    live.seal()
    for view in ("by_key", "extras", "everything"):
        done = live.build(view)
        assert done.proof.verdict == "equal"
        assert done.proof.evidence["left_out"] == 0
    for view in SELECTS:
        expected = answer(view, WIDE_COLUMNS, [*before, *after])
        assert live.answer(f"FROM {view}") == expected
    assert ("x", 1, 5) in live.answer("FROM extras")  # of an event that came before the column did
    assert set(live.verified().values()) == {0}


def test_sealed_ranges_keep_to_one_declaration(live: Live) -> None:
    live.epoch(*sent([hit(1, n=1)]))
    live.declare(WIDE, BY_KEY, COUNT)
    live.epoch(*sent([hit(2, n=2**40)]))
    live.epoch(*sent([hit(3, n=2**40)]))
    live.seal(seal_epochs=10, merge_fanout=2)

    spans = [(each.first, each.last) for each in sealed_ranges(live.ledger, "hits")]
    assert spans == [(1, 1), (2, 3)]
    assert live.build("by_key", full=True).proof.verdict == "equal"
    assert live.answer("FROM by_key") == [("a", 3, 2**41 + 1)]


def test_accepted_events_that_do_not_fit_a_version_are_left_out_of_it_and_counted(
    state: Path,
) -> None:
    live = Live(state)
    live.declare(WIDE, BY_KEY, COUNT)
    live.start()
    live.epoch(*sent([hit(1, n=2**40), hit(2, n=3), hit(3, n=2**41)]))
    live.declare(NARROW, BY_KEY, COUNT)
    live.epoch(*sent([hit(4, n=4), hit(5, n=2**42)]))
    live.seal()

    done = live.build("by_key")

    assert done.proof.verdict == "equal"
    assert done.proof.evidence["left_out"] == 2
    assert "2 of which do not fit its declaration" in done.proof.words
    assert live.answer("FROM by_key") == [("a", 2, 7)]
    assert live.answer("FROM everything") == [(4, 4)]  # 5 is a reject, 1 and 3 stay accepted
    assert set(live.verified().values()) == {0}
    live.ledger.close()


def test_the_task_says_what_an_old_version_leaves_out(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    live.epoch(*sent([hit(1, n=1)]))
    live.declare(WIDE, BY_KEY, COUNT)
    (old,) = (row.version for row in versions.views(live.ledger) if row.name == "by_key")
    with caplog.at_level("INFO", "streaming"):
        live.epoch(*sent([hit(2, n=2**40), hit(3, n=2**41), hit(4, n=0)]))
    assert f"version {old} leaves out 2 accepted events" in caplog.text


def test_an_id_that_counted_under_another_declaration_counts_still(live: Live) -> None:
    live.epoch(*sent([hit(1, n=1)]))
    live.seal()
    live.epoch(*sent([hit(2, n=1)]))
    live.declare(WIDE, BY_KEY, COUNT)
    live.epoch(*sent([hit(1, n=2**40), hit(2, n=2**40), hit(3, n=2**40)]))
    assert live.epochs()[-1].duplicates == 2
    live.start()
    live.epoch(*sent([hit(3, n=0)]))
    assert live.epochs()[-1].duplicates == 1


def test_a_version_that_goes_back_reads_by_its_first_declaration(live: Live) -> None:
    """Declared back and forth, a version is the same, and so is how it reads."""
    live.epoch(*sent([hit(1, n=1)]))
    live.declare(WIDE, BY_KEY, COUNT)
    live.epoch(*sent([hit(2, n=2**40)]))
    live.declare(NARROW, BY_KEY, COUNT)
    live.epoch(*sent([hit(3, n=3), hit(4, n=2**40)]))

    assert live.answer("FROM by_key") == [("a", 2, 4)]
    live.seal()
    done = live.build("by_key", full=True)
    assert done.proof.evidence["left_out"] == 1
    assert set(live.verified().values()) == {0}


CSV = """CREATE STREAM hits (id BIGINT PRIMARY KEY, k VARCHAR, n {})
WITH (topic = 'hits', format = 'csv');
"""


def test_csv_is_read_anew_by_the_places_of_its_fields(state: Path) -> None:
    live = Live(state)
    live.declare(CSV.format("INTEGER"), BY_KEY)
    live.start()
    live.epoch(b"1,a,5", b'2,"a",7')
    live.declare(CSV.format("BIGINT"), BY_KEY)
    live.epoch(b"3,a,5000000000")
    live.seal()
    live.build("by_key")
    assert live.answer("FROM by_key") == [("a", 3, 5_000_000_012)]
    live.ledger.close()


GENERATED = """CREATE STREAM hits (id BIGINT PRIMARY KEY, k VARCHAR, plane JSON,
    n INTEGER GENERATED ALWAYS AS ({}))
WITH (topic = 'hits', format = 'json');
"""


def test_the_place_of_a_csv_field_is_part_of_its_declaration(state: Path) -> None:
    """Two views that read one column read it alike, though only one reads another that moved."""
    csv = "WITH (topic = 'hits', format = 'csv');\n"
    before = f"CREATE STREAM hits (id BIGINT, k VARCHAR, n INTEGER, m INTEGER) {csv}"
    after = f"CREATE STREAM hits (id BIGINT, k VARCHAR, m BIGINT, n INTEGER) {csv}"
    by_n = "CREATE VIEW by_n AS SELECT k, sum(n) AS total FROM hits GROUP BY k;\n"
    by_both = "CREATE VIEW by_both AS SELECT k, sum(n) AS total, sum(m) AS m FROM hits GROUP BY k;"
    live = Live(state)
    live.declare(before, by_n, by_both)
    live.start()
    live.epoch(b"1,a,5,100")
    live.seal()
    live.declare(after, by_n, by_both)
    live.epoch(b"2,a,200,7")
    live.seal()
    for view in ("by_n", "by_both"):
        live.build(view)
    assert live.answer("FROM by_n") == [("a", 107)]
    assert live.answer("SELECT k, total FROM by_both") == [("a", 107)]
    assert live.verified() == {"by_n": 0, "by_both": 0}
    live.ledger.close()


def test_another_expression_of_a_generated_column_is_another_declaration(state: Path) -> None:
    live = Live(state)
    live.declare(GENERATED.format("plane->>'$.seats'"), BY_KEY)
    live.start()
    plane = {"seats": 3, "rows": 40}
    live.epoch(*sent([hit(1, plane=plane)]))
    live.declare(GENERATED.format("plane->>'$.rows'"), BY_KEY)
    live.epoch(*sent([hit(2, plane=plane)]))
    assert live.answer("FROM by_key") == [("a", 2, 6)]
    live.seal()
    live.build("by_key")
    assert live.answer("FROM by_key") == [("a", 2, 80)]
    assert live.verified() == {"by_key": 0}
    live.ledger.close()


def test_an_epoch_without_events_is_sealed_in_the_form_of_its_own_declaration(state: Path) -> None:
    live = Live(state)
    live.declare(WIDE, BY_KEY, EXTRA)
    live.start()
    live.epoch(*sent([hit(1, n=1, extra="x")]))
    live.seal()
    live.epoch(markers=1)
    live.declare(NARROW, BY_KEY)  # the view of the column that goes stays registered
    live.epoch(*sent([hit(2, n=2, extra="x"), hit(3, n=3, extra=7)]))
    live.seal()

    assert live.answer("FROM extras") == [("x", 2, 2)]  # 7 is no VARCHAR
    assert live.verified() == {"by_key": 0, "extras": 0}
    live.build("by_key", full=True)
    assert live.answer("FROM by_key") == [("a", 3, 6)]
    live.ledger.close()


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 12),
            "k": st.sampled_from([None, "a", "b"]),
            "n": st.sampled_from([None, -2000, -1000, -1, 0, 1, LIMIT - 1, LIMIT, 2**62]),
        },
        optional={"extra": st.sampled_from([None, "x", "y", 5])},
    ),
    max_size=12,
)


@settings(max_examples=3)
@given(first=st.lists(EVENTS, min_size=1, max_size=3), then=st.lists(EVENTS, max_size=3))
def test_the_law_over_a_change_of_declaration(
    tmp_path_factory: pytest.TempPathFactory, first: list[list[Event]], then: list[list[Event]]
) -> None:
    state = tmp_path_factory.mktemp("law") / "state"
    state.mkdir()
    live = Live(state)
    live.declare(NARROW, BY_KEY, COUNT)
    live.start()
    accepted: list[Event] = []
    for number, events in enumerate([*first, *then]):
        if number == len(first):
            live.declare(WIDE, BY_KEY, COUNT, EXTRA)
        live.epoch(*sent(events))
        fits = _narrow if number < len(first) else _wide
        accepted += [event for event in events if fits(event)]
    if not then:
        live.declare(WIDE, BY_KEY, COUNT, EXTRA)
    # the old versions read what was accepted by their own declaration
    old = [
        event for event in counted(accepted) if event["n"] is None or -LIMIT <= event["n"] < LIMIT
    ]
    assert live.answer("FROM by_key") == answer("by_key", NARROW_COLUMNS, old)
    live.seal()
    if live.writer.progress.epoch:
        for view in ("by_key", "extras", "everything"):
            live.build(view, full=True)
        readable = [e for e in counted(accepted) if isinstance(e.get("extra"), str | None)]
        everything = {"by_key": counted(accepted), "everything": counted(accepted)}
        for view in SELECTS:
            events = everything.get(view, readable)
            assert live.answer(f"FROM {view}") == answer(view, WIDE_COLUMNS, _plain(events))
        assert set(live.verified().values()) == {0}
    live.ledger.close()


def counted(events: Sequence[Event]) -> list[Event]:
    """The first event of each id."""
    return list({event["id"]: event for event in reversed(events)}.values())


def _plain(events: Sequence[Event]) -> list[Event]:
    return [
        {**event, "extra": event.get("extra") if isinstance(event.get("extra"), str) else None}
        for event in events
    ]


def _narrow(event: Event) -> bool:
    return event["n"] is None or 0 <= event["n"] < LIMIT


def _wide(event: Event) -> bool:
    return (event["n"] is None or event["n"] >= -1000) and isinstance(
        event.get("extra"), str | None
    )


def test_every_version_of_a_stream_stays_readable(live: Live) -> None:
    live.declare(WIDE, BY_KEY, COUNT)
    (row,) = versions.streams(live.ledger)
    found = {version: registered.stream(row, version) for version, _ in row.declared}
    types = {version: dict(stream.columns)["n"] for version, stream in found.items()}
    assert sorted(types.values()) == ["BIGINT", "INTEGER"]
    assert types[row.version] == "BIGINT"
