"""`everview.rejects`: the newest rejects of each stream, by SQL, at the state of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.ledger import rejects
from schemas.ledger.files import REJECTS
from schemas.ledger.sealing import sealed_ranges
from serving.follower import rejected
from tests.api.world import Served
from tests.engine.live import Live
from tests.engine.test_declarations import BY_KEY, COUNT, NARROW, WIDE, hit, sent

pytestmark = pytest.mark.slow

LISTED = 'SELECT epoch, partition, "offset", reason, "column", replayed FROM everview.rejects'
REJECTED = hit(2, n=2**40)
STILL = b"no event"


@pytest.fixture
def live(state: Path) -> Iterator[Live]:
    made = Live(state)
    made.declare(NARROW, BY_KEY, COUNT)
    made.start()
    yield made
    made.ledger.close()


def test_rejects_are_told_whole(live: Live) -> None:
    live.send(STILL, headers=[("trace", b"\x00\xff")])
    live.send(None, partition=1)
    live.epoch(*sent([hit(1, n=-1)]))
    served = live.served()
    assert served.rows(f"{LISTED} ORDER BY ALL") == [
        (1, 0, 0, "not JSON", None, None),
        (1, 0, 1, "check", "n", None),
        (1, 1, 0, "null value", None, None),
    ]
    sql = "SELECT stream, timestamp, key, value, headers, expected, found FROM everview.rejects"
    (whole,) = served.rows(f"{sql} WHERE reason = 'not JSON'")
    headers = [{"key": "trace", "value": b"\x00\xff"}]
    told = ("hits", served.rows("SELECT TIMESTAMP '2026-01-01 10:00:00'")[0][0], b"key", STILL)
    assert whole == (*told, headers, "", None)
    assert served.rows("SELECT expected, found FROM everview.rejects WHERE reason = 'check'") == [
        ("n >= 0", "-1")
    ]


def test_they_are_the_same_followed_or_loaded_sealed_or_not(live: Live) -> None:
    followed = Served(live.state)
    followed.catch_up()
    assert followed.rows(LISTED) == []
    live.epoch(*sent([hit(1, n=1)]), STILL, *sent([REJECTED]))
    followed.catch_up()
    live.epoch(*sent([hit(3, n=1)]))
    live.declare(WIDE, BY_KEY, COUNT)
    live.replay()
    expected = [(1, 0, 1, "not JSON", None, None), (1, 0, 2, "type", "n", 3)]

    followed.catch_up()
    assert followed.rows(LISTED) == expected
    assert live.served().rows(LISTED) == expected
    live.seal()
    assert live.served().rows(LISTED) == expected
    live.epoch(b"later")
    live.seal(merge_fanout=2)
    followed.catch_up()
    later = (4, 0, 4, "not JSON", None, None)
    assert followed.rows(LISTED) == live.served().rows(LISTED) == [*expected, later]


def test_only_the_newest_are_held(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "NEWEST", 3)
    followed = Served(live.state)
    live.epoch(*[b"first"] * 5)
    followed.catch_up()
    live.epoch(b"second")
    followed.catch_up()
    expected = [(1, 3), (1, 4), (2, 5)]
    sql = 'SELECT epoch, "offset" FROM everview.rejects ORDER BY ALL'
    assert followed.rows(sql) == live.served().rows(sql) == expected
    live.seal()
    assert live.served().rows(sql) == expected

    monkeypatch.setattr(rejected, "VALUE_BYTES", len(b"second") + len(b"first"))
    assert live.served().rows(sql) == expected[1:]


def test_an_epoch_without_rejects_leaves_them_as_they_are(live: Live) -> None:
    served = Served(live.state)
    live.epoch(STILL)
    served.catch_up()
    before = served.follower.streams["hits"].rejects
    live.epoch(*sent([hit(1, n=1)]))
    served.catch_up()
    assert served.follower.streams["hits"].rejects is before


def test_damaged_files_of_rejects_keep_no_view_from_answering(live: Live) -> None:
    live.epoch(STILL, *sent([hit(1, n=1)]))
    live.seal()
    (file,) = (
        each
        for one in sealed_ranges(live.ledger, "hits")
        for each in one.files
        if each.kind == REJECTS
    )
    live.root.local(file.file.path).write_bytes(b"gone")
    served = live.served()
    assert served.rows(LISTED) == []
    assert served.rows("FROM everything") == [(1, 1)]
    assert rejects.sources(live.ledger, "hits").sealed == (file,)
