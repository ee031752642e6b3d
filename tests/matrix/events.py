"""E1 to E31: bad and strange events: bytes in, a typed value or a reject with its reason out.

Each row goes through the whole path: parsed and folded by the speed layer, sealed, and the answers
are the recount of what the producer meant, which is never read from the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from schemas.ledger.versions import views
from tests.matrix.letters import heals, holds, master, rejects
from tests.matrix.registry import played, shown
from tests.matrix.stage import Stage
from tests.matrix.topic import Event
from tests.matrix.world import STREAM, UNKEYED, VIEWS, World, event, says

PARSE = "tests/engine/test_parse.py::"
ALL = {"everything": VIEWS["everything"]}


@dataclass(frozen=True)
class Case:
    """An event; the columns of the master that are looked at, or why it is rejected."""

    value: bytes | None
    meant: Mapping[str, Any] | None  # what the recount counts
    typed: Mapping[str, Any]
    reason: str | None = None
    column: str | None = None


def taken(number: int, given: Mapping[str, str], **typed: Any) -> Case:
    """Columns as JSON texts, and what they are; those that a good event needs are added."""
    fields = {"id": f'"c{number}"', "ts": '"2026-01-01T10:00:00"', "k": '"k"', **given}
    value = "{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}"
    base = {"id": f"c{number}", "ts": datetime(2026, 1, 1, 10), "k": "k"}  # noqa: DTZ001
    meant = {name: _plain(value) for name, value in {**base, **typed}.items()}
    return Case(value.encode(), meant, typed)


def refused(given: Mapping[str, str], reason: str, column: str | None = None) -> Case:
    return no_event(taken(0, {"id": '"r"', **given}).value, reason, column)


def no_event(value: bytes | None, reason: str, column: str | None = None) -> Case:
    return Case(value, None, {}, reason, column)


def _plain(value: Any) -> Any:
    """As the log keeps it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def play(
    stage: Stage,
    *cases: Case,
    stream: str = STREAM,
    views: Mapping[str, str] = VIEWS,
) -> World:
    """Every case among good events, in epochs of a few; then sealed, and read in a restart."""
    world = stage.world(stream=stream, views=views)
    for number, case in enumerate(cases):
        if stream == STREAM:
            world.send(event(10_000 + number))
        world.send(Event(case.value, case.meant))
    world.stream(max_events_per_epoch=50)
    check(world, cases)
    holds(world)
    world.seal()
    check(world, cases)
    heals(world)
    return world


def check(world: World, cases: Sequence[Case]) -> None:
    """Each case became what it must; cases are told apart by their place."""
    step = len(world.topic.records) // len(cases)
    accepted = {row["_offset"]: row for row in master(world)}
    rejected = {row["_offset"]: row for row in rejects(world)}
    for number, case in enumerate(cases):
        place = step * number + step - 1
        if case.reason is None:
            assert place in accepted, (case, rejected.get(place))
            found = {name: accepted[place][name] for name in case.typed}
            assert found == dict(case.typed), case
            kinds = {name: type(value) for name, value in found.items()}
            assert kinds == {name: type(value) for name, value in case.typed.items()}, case
        else:
            assert place in rejected, (case, accepted.get(place))
            row = rejected[place]
            assert (row["_reason"], row["_column"]) == (case.reason, case.column), case
        row = (accepted | rejected)[place]
        assert row["_value"] == case.value


@played(
    "E1",
    "No value (a tombstone); empty bytes.",
    PARSE + "test_bytes_that_are_no_event_are_rejected_whole",
)
def e1(stage: Stage) -> None:
    play(stage, no_event(None, "null value"), no_event(b"", "not JSON"), no_event(b" ", "not JSON"))


@played("E2", "JSON that is no object.")
def e2(stage: Stage) -> None:
    play(stage, *(no_event(each, "not an object") for each in (b"null", b'"x"', b"3", b"[]")))


@played("E3", "JSON that is cut, has something behind it, or is another dialect.")
def e3(stage: Stage) -> None:
    good = taken(1, {}).value or b""
    texts: tuple[bytes, ...] = (
        b'{"id":"a",',
        good + b" trailing",
        good + good,
        b"{'id':'a'}",
        b"{id:1}",
    )
    texts += (b'{"id":"a" /* c */}', b'{"id":"a","n":01}')
    play(stage, *(no_event(each, "not JSON") for each in texts))


@played("E4", "A key stands twice in an object. Rule: rejected, declared or not.")
def e4(stage: Stage) -> None:
    head = b'{"id":"a","ts":"2026-01-01","k":"k",'
    texts = (b'"n":1,"n":2}', b'"n":1,"n":1}', b'"z":1,"z":2}', b'"n":1,"\\u006e":2}')
    play(stage, *(no_event(head + each, "repeated key") for each in texts))


@played("E5", "NaN, Infinity, a trailing comma. Rule: taken where no declared column has them.")
def e5(stage: Stage) -> None:
    play(
        stage,
        refused({"x": "NaN"}, "type", "x"),
        refused({"x": "-Infinity"}, "type", "x"),
        taken(1, {"z": "NaN"}),
        taken(2, {"z": "[Infinity]"}),
    )


@played("E6", "Bytes that are no UTF-8.")
def e6(stage: Stage) -> None:
    head = b'{"id":"a","ts":"2026-01-01","k":"'
    texts = (head + b'\xff"}', b"\xfe\xff", head + b'\xed\xa0\x80"}')
    play(stage, *(no_event(each, "not UTF-8") for each in texts))


@played("E7", "Values of 1 and 10 MB.", PARSE + "test_e7_a_large_value_is_taken")
def e7(stage: Stage) -> None:
    large = "x" * 10_000_000
    play(stage, *(taken(size, {"z": f'"{large[:size]}"'}) for size in (1_000_000, 10_000_000)))


@played("E8", "Nesting of 64, 2000 and 100,000 levels.", PARSE + "test_e8_depth_is_no_danger")
def e8(stage: Stage) -> None:
    depths = (64, 2000, 100_000)
    play(
        stage,
        *(taken(depth, {"z": "[" * depth + "]" * depth}) for depth in depths),
        *(refused({"n": "[" * depth + "]" * depth}, "type", "n") for depth in depths),
        *(no_event(b"[" * depth, "not JSON") for depth in depths),
    )


@played("E9", "A column that must be there is missing, or null.")
def e9(stage: Stage) -> None:
    play(
        stage,
        no_event(b'{"id":"a","ts":"2026-01-01"}', "missing", "k"),
        refused({"k": "null"}, "missing", "k"),
        refused({"id": "null"}, "missing", "id"),
    )


@played("E10", "Texts that look like nothing: empty, `null`, a space.")
def e10(stage: Stage) -> None:
    texts = ("", "null", " ")
    world = play(stage, *(taken(n, {"k": f'"{t}"'}, k=t) for n, t in enumerate(texts)))
    assert set(texts) <= {row[0] for row in world.look().rows("SELECT k FROM by_key")}


STRANGE: tuple[str, ...] = ("a\0b", "😀", "a\nb", "\u202eabc", "x" * 10_000, "..", "a/b", "%2F")
STRANGE += ("__HIVE_DEFAULT_PARTITION__", "'; DROP TABLE k; --")


@played("E11", "Texts with NUL, emoji, line breaks, direction marks, what looks like a path.")
def e11(stage: Stage) -> None:
    cases = (taken(n, {"k": json.dumps(text)}, k=text) for n, text in enumerate(STRANGE))
    world = play(stage, *cases)
    assert set(STRANGE) <= {row[0] for row in world.look().rows("SELECT k FROM by_key")}
    world.build("by_key")
    heals(world)
    names = {path.name for path in world.state.rglob("*")}
    assert not names & set(STRANGE)


@played("E12", "One text in NFC and in NFD form: two groups.")
def e12(stage: Stage) -> None:
    texts = ("é", "e\u0301")
    world = play(stage, *(taken(n, {"k": f'"{t}"'}, k=t) for n, t in enumerate(texts)))
    assert set(texts) <= {row[0] for row in world.look().rows("SELECT k FROM by_key")}


@played("E13", "A value of another type.")
def e13(stage: Stage) -> None:
    play(
        stage,
        *(refused({"n": text}, "type", "n") for text in ('"abc"', "{}", "[1]")),
        refused({"x": '"abc"'}, "type", "x"),
        taken(1, {"x": "1"}, x=1.0),
        taken(2, {"x": "1e308"}, x=1e308),
    )


@played(
    "E14", "A value of a JSON type that a cast would bend. Rule: rejected; a DECIMAL may be text."
)
def e14(stage: Stage) -> None:
    wrong = [("n", '"12"'), ("n", "true"), ("k", "5"), ("k", "{}"), ("b", "1"), ("b", '"true"')]
    play(
        stage,
        *(refused({column: text}, "type", column) for column, text in wrong),
        taken(1, {"d": '"12.30"'}, d=Decimal("12.30")),
        taken(2, {"b": "true"}, b=True),
    )


@played("E15", "A number outside the range of its column.")
def e15(stage: Stage) -> None:
    texts = ("2147483648", "-2147483649", "12345678901234567890")
    play(
        stage,
        *(refused({"n": text}, "type", "n") for text in texts),
        refused({"d": "12345678901.00"}, "type", "d"),
        taken(1, {"n": "2147483647"}, n=2147483647),
        taken(2, {"d": "9999999999.99"}, d=Decimal("9999999999.99")),
    )


@played("E16", "A fraction in an INTEGER column: never rounded.")
def e16(stage: Stage) -> None:
    play(stage, *(refused({"n": text}, "type", "n") for text in ("1.5", "1.0", "1e2")))


@played(
    "E17", "A CHECK is false; or neither true nor false.", PARSE + "test_e9_e17_missing_and_checks"
)
def e17(stage: Stage) -> None:
    play(stage, refused({"n": "-1"}, "check", "n"), taken(1, {"n": "null"}, n=None), taken(2, {}))


@played("E18", "A DECIMAL with more digits than its column has: never rounded.")
def e18(stage: Stage) -> None:
    play(
        stage,
        refused({"d": "1.005"}, "type", "d"),
        refused({"d": '"1.005"'}, "type", "d"),
        refused({"d": "1e-40"}, "type", "d"),
        taken(1, {"d": "12.3"}, d=Decimal("12.30")),
        taken(2, {"d": "12.3000"}, d=Decimal("12.30")),
        taken(3, {"d": "125e-1"}, d=Decimal("12.50")),
    )


WIDE = """CREATE STREAM events (id VARCHAR, ts TIMESTAMP NOT NULL, k VARCHAR NOT NULL, n BIGINT,
    x DOUBLE, d DECIMAL(12,2)) WITH (topic = 'events', format = 'json', event_time = 'ts');
"""


@played(
    "E19",
    "A sum passes 64 bits; and then the widest type: the view is suspended, the stream goes on.",
    "tests/laws/test_measures.py::test_sums_stay_exact_beyond_64_bits",
    "tests/engine/test_streaming_epochs.py::test_a_view_that_fails_is_suspended_and_the_others_go_on",
)
def e19(stage: Stage) -> None:
    most = 2**63 - 1
    world = play(stage, *(taken(n, {"n": str(most)}, n=most) for n in range(5)), stream=WIDE)
    ((total,),) = world.look().rows("SELECT total FROM everything")
    assert total == 5 * most
    failing = {**VIEWS, "failing": "SELECT sum(100 // (n - 7)) AS shares FROM events"}
    world = stage.world(stream=WIDE, views=failing)
    world.views.pop("failing")
    for number in range(3):
        case = taken(number, {"n": str(6 + number)}, n=6 + number)
        world.send(Event(case.value, case.meant))
        heals(world)
    suspended = {view.name: view.suspended_epoch for view in views(world.ledger)}
    assert suspended == {"everything": None, "by_key": None, "by_hour": None, "failing": 2}
    says(world.look().degraded("failing"), "suspended at epoch 2")


shown(
    "E20",
    "Sums of DOUBLEs in any order and split.",
    "tests/laws/test_law.py::test_every_split_gives_the_same_bits",
    "tests/language/test_refusals.py",
    reason="sum of a DOUBLE is refused by `check`, which names the CAST to a DECIMAL",
)


@played("E21", "An integer that no double holds.", "tests/api/test_formats.py")
def e21(stage: Stage) -> None:
    number = 2**53 + 1
    world = play(stage, taken(1, {"n": str(number)}, n=number), stream=WIDE)
    assert world.look().rows("SELECT total FROM everything") == [(number,)]


NO_TIMES = ("2026-02-30T00:00:00Z", "2026-01-01T25:00", "", "yesterday", "2026-01-01T10:00:00 x")


@played("E22", "A time that there is none of.")
def e22(stage: Stage) -> None:
    play(stage, *(refused({"ts": f'"{text}"'}, "type", "ts") for text in NO_TIMES))


@played("E23", "A time as a number: other encodings are generated columns.")
def e23(stage: Stage) -> None:
    play(stage, refused({"ts": "1767261600"}, "type", "ts"))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@played("E24", "A time with Z, with another zone, with none: UTC.")
def e24(stage: Stage) -> None:
    texts = {
        "2026-01-01T10:00:00Z": "2026-01-01T10:00:00",
        "2026-01-01T10:00:00+02:00": "2026-01-01T08:00:00",
        "2026-01-01T00:30:00.25-0530": "2026-01-01T06:00:00.250000",
        "2026-01-01T10:00:00": "2026-01-01T10:00:00",
    }
    cases = [
        taken(number, {"ts": f'"{text}"'}, ts=moment(utc))
        for number, (text, utc) in enumerate(texts.items())
    ]
    play(stage, *cases)


@played("E25", "A time ten years ahead, and ten years back: it counts in its bucket.")
def e25(stage: Stage) -> None:
    texts = ("2036-01-01T10:00:00", "2016-01-01T10:00:00", "0001-01-01T00:00:00")
    world = play(stage, *(taken(n, {"ts": f'"{t}"'}, ts=moment(t)) for n, t in enumerate(texts)))
    hours = {row[0].year for row in world.look().rows("SELECT hour FROM by_hour")}
    assert {2036, 2016, 1} <= hours


@played("E26", "Keys that no column is declared for: kept in the raw bytes.")
def e26(stage: Stage) -> None:
    play(stage, taken(1, {"unknown": '{"deep": [1, null]}', "": "1"}))


GENERATED = """CREATE STREAM events (id VARCHAR PRIMARY KEY, ts TIMESTAMP NOT NULL,
    k VARCHAR NOT NULL, n INTEGER, d DECIMAL(12,2), quotient INTEGER GENERATED ALWAYS AS (100 // n),
    half INTEGER GENERATED ALWAYS AS (n / 2), day DATE GENERATED ALWAYS AS (strptime(k, '%Y'))
    NOT NULL) WITH (topic = 'events', format = 'json', event_time = 'ts');
"""


@played(
    "E27",
    "A generated column's expression fails, or gives NULL where it must not.",
    PARSE + "test_e27_an_expression_that_fails_rejects_its_event",
    PARSE + "test_e27_a_generated_value_must_survive_its_column",
    PARSE + "test_an_event_that_stops_the_engine_is_rejected_alone",
)
def e27(stage: Stage) -> None:
    play(
        stage,
        taken(1, {"k": '"2020"', "n": "4"}, k="2020", n=4, quotient=25, half=2),
        refused({"k": '"word"', "n": "4"}, "expression", "day"),
        refused({"k": '"2020"', "n": "3"}, "type", "half"),
        taken(2, {"k": '"2021"'}, k="2021", quotient=None),
        stream=GENERATED,
        views=ALL,
    )


@played(
    "E28",
    "A record without a key, with a time of its own, among others.",
    PARSE + "test_e28_records_of_any_kind",
    reason="headers are not read yet",
)
def e28(stage: Stage) -> None:
    world = play(stage, taken(1, {}))
    assert {row["_key"] for row in master(world)} == {None}
    assert all(row["_timestamp"] is not None for row in master(world))


@played("E29", "One event twice: with an id it counts once, without one twice.")
def e29(stage: Stage) -> None:
    for stream, count in ((STREAM, 3), (UNKEYED, 9)):
        world = stage.world(stream=stream)
        for _ in range(3):
            world.send(event(1), event(2), event(1, id="e3"))
            world.stream()
        heals(world)
        assert world.look().rows("SELECT events FROM everything") == [(count,)]
        world.seal()
        heals(world)


CSV = """CREATE STREAM events (id VARCHAR, k VARCHAR, n INTEGER, d DECIMAL(12,2))
WITH (topic = 'events', format = 'csv');
"""


@played(
    "E30",
    "CSV: too few or too many fields, quotes, line breaks, NULL and the empty text.",
    PARSE + "test_e30_csv_is_one_record",
    PARSE + "test_e30_null_of_csv_counts_without_quotes",
)
def e30(stage: Stage) -> None:
    def line(text: bytes, **typed: Any) -> Case:
        return Case(text, {name: _plain(value) for name, value in typed.items()}, typed)

    play(
        stage,
        line(b"a,b,1,2.50", id="a", k="b", n=1, d=Decimal("2.50")),
        line(b'"a","x\ny",,', id="a", k="x\ny", n=None),
        line(b'"",,,', id="", k=None),
        line(b'"say ""hi""",b,,\r\n', id='say "hi"', k="b"),
        no_event(b"a,b,1", "field count"),
        no_event(b"a,b,1,2,3", "field count"),
        no_event(b'"a,b,1,2', "not CSV"),
        no_event(b"a,b,1,2\na,b,1,2", "not CSV"),
        no_event(b"a,b,x,2", "type", "n"),
        stream=CSV,
        views=ALL,
    )


@played(
    "E31",
    "Nothing but garbage, on one partition; the other is empty for ever.",
    reason="a whole hour of it is left to a soak test",
)
def e31(stage: Stage) -> None:
    world = stage.world()
    for number in range(4):
        garbage = [bytes([value % 256, number]) * 20 for value in range(250)]
        world.send(*(Event(each, None) for each in garbage))
        world.stream()
        told = world.look().coverage("everything")
        assert told["position"] == {"0": 250 * (number + 1), "1": 0}
        assert told["fresh_as_of"] is not None
        holds(world)
    world.seal()
    heals(world)
    assert len(rejects(world)) == 1000
