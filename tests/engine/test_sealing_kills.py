"""Sealing as Spark jobs beside epochs: whatever dies in it, nothing is lost and nothing doubled."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.ledger.files import SEALED, named
from schemas.ledger.sealing import sealed_until
from tests.engine.conftest import Stack
from tests.engine.test_streaming_kills import KILLED, PROJECT, clicks

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

SMALL = ["--max-events-per-epoch", "250", "--seal-every", "3600", "--seal-epochs", "2"]
SMALL += ["--keep-removed", "0"]


def test_kills_while_epochs_go_on(stack: Stack) -> None:
    stack.declare(PROJECT)
    stack.create("clicks")
    sent = stack.produce("clicks", clicks(0, 1500))
    for moment in ("seal.after_files=kill@2", "seal.after_commit=kill@1"):
        code, log = stack.run(*SMALL, failpoints=moment)
        assert code == KILLED, log
        sent += stack.produce("clicks", clicks(1400, 1600))
    with stack.ledger() as ledger:
        assert sealed_until(ledger, "clicks") > 0

    # ids of sealed epochs are known to a driver that starts, and in the end all is sealed
    sent += stack.produce("clicks", clicks(0, 1600))
    code, log = stack.run(*SMALL)
    assert code == 0, log
    assert stack.epochs("clicks") == []
    rows = stack.rows("clicks")
    assert Counter((row["_partition"], row["_offset"]) for row in rows) == Counter(sent)
    counted = Counter(row["id"] for row in rows if not row["_duplicate"])
    assert counted == Counter(range(1600))
    pages = {row["page"]: row["clicks"] for row in stack.answer("clicks", "pages")}
    assert pages == {f"p{n}": len(range(n, 1600, 7)) for n in range(7)}

    # what is there is named, or written under the last token by a task that was killed: no such
    with stack.ledger() as ledger:
        paths = {path for kind in SEALED for path in named(ledger, kind, "clicks")}
    folders = ("segments", "master", "ids", "runs")
    there = [path for name in folders for path in (stack.state / name).rglob("*.*")]
    assert {path.relative_to(stack.state).as_posix() for path in there} == paths
