"""Whatever dies in mid-flow, drivers, tasks and sealing beside them, nothing is lost and nothing
doubled. One state for all of it: Spark starts five times."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.ledger import files
from schemas.ledger.leases import leases
from schemas.ledger.sealing import sealed_until
from streaming.orphans import token_of
from tests.engine.conftest import Stack

pytestmark = [pytest.mark.spark, pytest.mark.kafka, pytest.mark.long]

PROJECT = """
CREATE STREAM clicks (id BIGINT PRIMARY KEY, page VARCHAR)
WITH (topic = '{topic}clicks', format = 'json');
CREATE VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
"""
KILLED = -9
SMALL = ["--max-events-per-epoch", "250"]
SEALED = ["--seal-every", "3600", "--seal-epochs", "2", "--keep-removed", "0"]
LARGER = ["--max-events-per-epoch", "400"]  # a worker dies with each second task that it runs
FOLDERS = ("segments", "master", "ids", "runs")


def clicks(first: int, until: int) -> list[bytes]:
    return [b'{"id": %d, "page": "p%d"}' % (n, n % 7) for n in range(first, until)]


def test_kills_of_drivers_tasks_and_sealing(stack: Stack) -> None:
    stack.declare(PROJECT)
    stack.create("clicks")
    sent = stack.produce("clicks", clicks(0, 1500))

    code, log = stack.run(*SMALL, failpoints="epoch.before_commit=kill@2")
    assert code == KILLED, log
    assert len(stack.epochs("clicks")) == 1

    code, log = stack.run(*SMALL, failpoints="epoch.after_commit=kill@2")
    assert code == KILLED, log
    assert len(stack.epochs("clicks")) == 3

    for moment in ("seal.after_files=kill@2", "seal.after_commit=kill@1"):
        sent += stack.produce("clicks", clicks(1400, 1600))
        code, log = stack.run(*SMALL, *SEALED, failpoints=moment)
        assert code == KILLED, log
    with stack.ledger() as ledger:
        assert sealed_until(ledger, "clicks") > 0

    # ids of sealed epochs are known to a driver that starts, and in the end all is sealed
    sent += stack.produce("clicks", clicks(0, 1600))
    code, log = stack.run(*LARGER, *SEALED, failpoints="task.after_segment=kill@2")
    assert code == 0, log

    assert stack.epochs("clicks") == []
    rows = stack.rows("clicks")
    assert Counter((row["_partition"], row["_offset"]) for row in rows) == Counter(sent)
    counted = Counter(row["id"] for row in rows if not row["_duplicate"])
    assert counted == Counter(range(1600))
    pages = {row["page"]: row["clicks"] for row in stack.answer("clicks", "pages")}
    assert pages == {f"p{n}": len(range(n, 1600, 7)) for n in range(7)}

    # what the ledger does not name is of the last token only: older leftovers are gone
    with stack.ledger() as ledger:
        paths = {path for kind in files.SEALED for path in files.named(ledger, kind, "clicks")}
        assert leases(ledger) == []
    found = [path for name in FOLDERS for path in (stack.state / name).rglob("*.*")]
    there = {path.relative_to(stack.state).as_posix() for path in found}
    assert paths < there
    assert {token_of(path.rpartition("/")[2]) for path in there - paths} == {5}
