"""`everview rejects`: counts, the newest whole, and a replay asked for and awaited."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import batching, cli
from schemas.ledger.epochs import progress
from schemas.ledger.rejects import asked
from tests.engine.live import Live
from tests.engine.test_declarations import BY_KEY, COUNT, NARROW, WIDE, hit, sent

ODD = b"\x1b[31mred\xff\nline"


@pytest.fixture
def live(state: Path) -> Iterator[Live]:
    made = Live(state)
    made.declare(NARROW, BY_KEY, COUNT)
    made.start()
    yield made
    made.ledger.close()


def told(live: Live, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    code = cli.main(["rejects", "hits", "--state", str(live.state), *options])
    said = capsys.readouterr()
    return code, said.out, said.err


def as_json(live: Live, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    code, out, _ = told(live, capsys, "--json", *options)
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_nothing_was_rejected(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.epoch(*sent([hit(1, n=1)]))
    assert told(live, capsys) == (0, "stream hits: nothing was rejected\n", "")
    assert as_json(live, capsys)["counts"] == []


def test_counts_by_reason_and_column_and_the_newest_whole(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    live.epoch(*sent([hit(1, n=-1), hit(2, n=-2)]))
    live.seal()
    live.send(ODD, headers=[("trace", b"\x00\xff"), ("who", b"me")])
    live.epoch(*sent([hit(3, n=-3)]), None)

    found = as_json(live, capsys, "--limit", "3")

    assert (found["open"], found["replayed"]) == (5, 0)
    counts = [(c["reason"], c["column"], c["open"]) for c in found["counts"]]
    assert counts == [("check", "n", 3), ("not UTF-8", None, 1), ("null value", None, 1)]
    first = found["counts"][0]
    assert (first["first_epoch"], first["last_epoch"]) == (1, 2)
    nothing, check, odd = found["rejects"]
    assert (nothing["reason"], nothing["value"]) == ("null value", None)
    assert json.loads(check["value"]) == hit(3, n=-3)
    assert (check["expected"], check["found"], check["key"]) == ("n >= 0", "-3", "key")
    assert base64.b64decode(odd["value_base64"]) == ODD
    assert odd["headers"] == [
        {"key": "trace", "value_base64": base64.b64encode(b"\x00\xff").decode()},
        {"key": "who", "value": "me"},
    ]
    assert odd["timestamp"] == "2026-01-01T10:00:00Z"


def test_a_terminal_is_shown_no_bytes_that_it_would_obey(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    live.send(ODD + b"x" * 500, headers=[("[red]\x1b", b"\x00")])
    live.epoch()
    code, out, _ = told(live, capsys)
    assert code == 0
    assert "1 rejects are open, 0 were re-admitted" in out
    assert "\\x1b[31mred\\xff\\nlinexxx" in out
    assert "headers [red]\\x1b=\\x00" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_replay_is_asked_for_and_awaited(
    live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live.epoch(*sent([hit(1, n=2**40), hit(1, n=2**41), hit(2, n=-5000)]))
    live.declare(WIDE, BY_KEY, COUNT)
    monkeypatch.setattr(batching, "streaming", lambda *_: {})
    stop = threading.Event()

    def drive() -> None:
        while not stop.wait(0.01):
            live.replay_part()

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        code, out, err = told(live, capsys, "--replay")
        again = as_json(live, capsys, "--replay")
    finally:
        stop.set()
        driver.join()

    assert (code, err) == (0, "")
    assert out == (
        "stream hits: replay 1 tried 3 rejects: 1 re-admitted, 1 duplicates of counted events, "
        "1 rejected still\n"
    )
    assert (again["considered"], again["readmitted"], again["finished"]) == (1, 0, True)
    found = as_json(live, capsys)
    assert (found["open"], found["replayed"]) == (1, 2)
    assert [each["replayed"] for each in found["rejects"]] == [None, 2, 2]
    live.seal()
    assert as_json(live, capsys)["rejects"] == found["rejects"]
    assert "(re-admitted in epoch 2)" in told(live, capsys)[1]
    assert [each["replayed"] for each in as_json(live, capsys, "--limit", "2")["rejects"]] == [
        None,
        2,
    ]


def test_without_streaming_a_replay_says_so(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.epoch(b"bad")
    code, out, err = told(live, capsys, "--replay")
    assert (code, out) == (1, "")
    assert err == ("stream hits: no streaming runs; start it (`everview up`) and ask again\n")
    assert asked(live.ledger, "hits") is None
    assert progress(live.ledger, "hits").epoch == 1


def test_a_driver_that_dies_meanwhile_is_said_and_the_replay_stays(
    live: Live, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live.epoch(b"bad")
    answers = iter([{}, "no streaming runs"])
    monkeypatch.setattr(batching, "streaming", lambda *_: next(answers))
    code, out, err = told(live, capsys, "--replay")
    assert code == 1
    assert "tried 0 rejects" in out
    assert err == "no streaming runs; the replay goes on from here when the stream does\n"
    assert asked(live.ledger, "hits") is not None


def test_bad_use(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    live.epoch()
    assert told(live, capsys, "--limit", "-1")[0] == 2
    assert cli.main(["rejects", "nowhere", "--state", str(live.state)]) == 2
    assert cli.main(["rejects", "nowhere", "--replay", "--state", str(live.state)]) == 2
    assert "'nowhere'" in capsys.readouterr().err
