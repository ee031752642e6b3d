"""Whatever dies in mid-flow, the master has each event once."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.ledger.leases import leases
from streaming.orphans import token_of
from tests.engine.conftest import Stack

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

PROJECT = """
CREATE STREAM clicks (id BIGINT PRIMARY KEY, page VARCHAR)
WITH (topic = '{topic}clicks', format = 'json');
CREATE VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
"""
KILLED = -9


def clicks(first: int, until: int) -> list[bytes]:
    return [b'{"id": %d, "page": "p%d"}' % (n, n % 7) for n in range(first, until)]


def test_kills_before_and_after_the_commit_and_in_a_task(stack: Stack) -> None:
    stack.declare(PROJECT)
    stack.create("clicks")
    sent = stack.produce("clicks", clicks(0, 1500))
    small = ("--max-events-per-epoch", "250")

    code, log = stack.run(*small, failpoints="epoch.before_commit=kill@2")
    assert code == KILLED, log
    assert len(stack.epochs("clicks")) == 1

    code, log = stack.run(*small, failpoints="epoch.after_commit=kill@2")
    assert code == KILLED, log
    assert len(stack.epochs("clicks")) == 3

    sent += stack.produce("clicks", clicks(1400, 1600))
    code, log = stack.run(*small, failpoints="task.after_segment=kill@2")
    assert code == 0, log

    rows = stack.rows("clicks")
    identities = [(row["_partition"], row["_offset"]) for row in rows]
    assert len(identities) == len(set(identities))
    assert set(identities) == set(sent)
    counted = Counter(row["id"] for row in rows if not row["_duplicate"])
    assert counted == Counter(range(1600))

    pages = {row["page"]: row["clicks"] for row in stack.answer("clicks", "pages")}
    assert pages == {f"p{n}": len(range(n, 1600, 7)) for n in range(7)}

    # what the ledger does not name is of the last token only: older leftovers are gone
    named = {file.file.path for epoch in stack.epochs("clicks") for file in epoch.segments}
    there = {f"segments/clicks/{file.name}" for file in (stack.state / "segments/clicks").iterdir()}
    assert named < there
    assert {token_of(path.rpartition("/")[2]) for path in there - named} == {3}
    with stack.ledger() as ledger:
        assert leases(ledger) == []
