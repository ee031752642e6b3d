"""Rejects of a running driver, tried again while micro-batches flow: once, though that is asked for
twice."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from kafka import KafkaProducer

from infra import cli, jars
from schemas.ledger import rejects
from schemas.ledger.files import REJECTS
from tests.engine.conftest import Stack, wait_until

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

PROJECT = """
CREATE STREAM clicks (id BIGINT PRIMARY KEY, page VARCHAR, ms {kind})
WITH (topic = '{{topic}}clicks', format = 'json');
CREATE VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
"""
LARGE = 2**40
HEADERS = [("trace", b"\x00\xff"), ("trace", b"2")]


def clicks(first: int, until: int, ms: int) -> list[bytes]:
    return [b'{"id": %d, "page": "p", "ms": %d}' % (n, ms) for n in range(first, until)]


def test_a_running_driver_tries_rejects_again(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.declare(PROJECT.format(kind="INTEGER"))
    stack.create("clicks")
    stack.produce("clicks", [*clicks(0, 10, 1), *clicks(10, 40, LARGE), b"no event"])
    producer = KafkaProducer(bootstrap_servers=stack.servers)
    producer.send(stack.topic("clicks"), b"odd", headers=HEADERS).get(10)
    producer.close()
    connector = ("--jars", str(jars.connector_jars()[0].parent))

    driver = stack.start(*connector, "--seal-every", "1")
    with stack.ledger() as ledger:
        wait_until(lambda: rejected(stack) == 32, "32 rejects")
        stack.declare(PROJECT.format(kind="BIGINT"))
        asked = rejects.ask(ledger, "clicks", datetime.now(UTC))
        stack.produce("clicks", clicks(40, 50, LARGE))
        wait_until(
            lambda: rejects.replay(ledger, asked.id).finished is not None, "the replay to end"
        )
        done = rejects.replay(ledger, asked.id)
        assert (done.considered, done.accepted, done.duplicates) == (32, 30, 0)
        state = ("--state", str(stack.state))
        assert cli.main(["rejects", "clicks", "--replay", "--json", *state]) == 0
        again = json.loads(capsys.readouterr().out)
        assert (again["considered"], again["readmitted"]) == (2, 0)
        wait_until(lambda: len(stack.rows("clicks")) == 50, "all events")
        assert driver.stop()[0] == 0

    assert Counter(row["id"] for row in stack.rows("clicks")) == Counter(range(50))
    assert stack.answer("clicks", "pages") == [{"page": "p", "clicks": 50}]
    assert cli.main(["rejects", "clicks", "--json", "--limit", "99", *state]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["open"], found["replayed"]) == (2, 30)
    (odd,) = (each for each in found["rejects"] if each["value"] == "odd")
    assert odd["headers"] == [
        {"key": "trace", "value_base64": "AP8="},
        {"key": "trace", "value": "2"},
    ]


def rejected(stack: Stack) -> int:
    sealed = sum(each.num_rows for each in stack.sealed("clicks", REJECTS))
    return sealed + len(stack.rejects("clicks"))
