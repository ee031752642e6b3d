"""What serving says on stderr: JSON lines without secrets, statements or repeats; an id for each
request."""

from __future__ import annotations

import io
import json
import logging
import random
import string
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.log import EVERY_SECONDS, MOST, Lines, Repeats, about, request_id, without_secrets
from tests.api.world import Served, ask, serving

CANARY = "hunter2-canary"


class Said:
    """A logger of its own, at a clock that is set by hand."""

    def __init__(self, name: str) -> None:
        self.now = 0.0
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(Lines("serving"))
        self.handler.addFilter(Repeats(lambda: self.now))
        self.log = logging.getLogger(name)

    def lines(self) -> list[dict[str, Any]]:
        text = self._text.getvalue()
        assert text.isascii()
        assert not any(ord(c) < 32 for c in text.replace("\n", ""))
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def said(request: pytest.FixtureRequest) -> Iterator[Said]:
    found = Said(getattr(request, "param", "tests.said"))
    found.log.addHandler(found.handler)
    level = found.log.level
    found.log.setLevel(logging.INFO)
    yield found
    found.log.setLevel(level)
    found.log.removeHandler(found.handler)


def test_a_line_is_an_object(said: Said) -> None:
    told = about(stream="hits", view="keys", epoch=7)
    said.log.warning("two\nlines \x1b[31m\u2028%s", "\x00end", extra=told)
    (line,) = said.lines()
    at = line.pop("at")
    assert at.endswith("+00:00")
    assert line == {
        "level": "warning",
        "part": "serving",
        "message": "two\nlines \x1b[31m\u2028\x00end",
        "stream": "hits",
        "view": "keys",
        "epoch": 7,
    }


def test_an_error_is_told_by_its_type_and_place_alone(said: Said) -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        said.log.exception("it failed")
    (line,) = said.lines()
    assert line["error"] == "ValueError"
    assert line["raised"][-1].startswith("api/test_log.py:")
    assert CANARY not in json.dumps(line)


SECRETS = (
    "password={}",
    "PASSWORD: {}",
    '{{"token": "{}"}}',
    "api_key = '{}'",
    "api-key={}&x=1",
    "Authorization: Bearer {}",
    "Authorization: Basic {}",
    "sent bearer {} to it",
    "kafka://user:{}@host:9092/x",
    "client_secret={}",
    "passwd={}",
)


@pytest.mark.parametrize("written", SECRETS)
def test_secrets_are_hidden_wherever_they_stand(said: Said, written: str) -> None:
    text = written.format(CANARY)
    said.log.info("%s", text, extra=about(what=text, deep={"list": [text]}))
    (line,) = said.lines()
    assert CANARY not in json.dumps(line)
    assert json.dumps(line).count("[hidden]") == 3


def test_what_is_no_secret_stays() -> None:
    for text in (
        "lease stream/hits, token 12",
        "http://127.0.0.1:8080/views",
        "view 'passwords' is being built",
        "a bearer",
    ):
        assert without_secrets(text) == text


def test_any_text_makes_one_line(said: Said) -> None:
    pick = random.Random(1)
    letters = string.printable + "\u0085\u2029\x7f\u202e'\"\\"
    for at in range(200):
        text = "".join(pick.choices(letters, k=40))
        said.log.info(f"{at}" + "%s", text)
    assert len(said.lines()) == 200


def test_what_is_no_unicode_makes_a_line_too() -> None:
    record = logging.makeLogRecord({"msg": "a\ud800b", "levelname": "INFO"})
    assert json.loads(Lines("serving").format(record))["message"] == "a\ud800b"


def test_repeats_are_counted_instead(said: Said) -> None:
    for at in range(MOST + 5):
        said.log.warning("damaged: %s", at)
    said.log.warning("something else")
    assert len(said.lines()) == MOST + 1
    said.now = EVERY_SECONDS
    said.log.warning("damaged: %s", "again")
    said.log.warning("something else")
    *_, again, other = said.lines()
    assert (again["message"], again["suppressed"]) == ("damaged: again", 5)
    assert "suppressed" not in other


def test_what_is_remembered_of_repeats_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.log.KEPT", 10)
    repeats = Repeats(lambda: 0.0)
    for at in range(1_000):
        record = logging.LogRecord("x", logging.INFO, "", 0, f"message {at}", (), None)
        assert repeats.filter(record)
        assert len(repeats._told) <= 10


IDS = {
    "given": ("a-Request.1_x", True),
    "at its longest": ("x" * 64, True),
    "too long": ("x" * 65, False),
    "empty": ("", False),
    "of other letters": ("a b", False),
    "a header inside": ("a\tb: c", False),
    "markup": ("<b>", False),
}


@pytest.mark.parametrize("case", IDS)
def test_an_id_comes_back(client: httpx.Client, case: str) -> None:
    given, kept = IDS[case]
    for path in ("/healthz", "/nowhere", "/readyz"):
        found = client.get(path, headers={"X-Request-Id": given}).headers["x-request-id"]
        assert (found == given) == kept
        assert len(found) <= 64
        assert found.isascii()
    foreign = client.get("/healthz", headers={"X-Request-Id": given, "Host": "elsewhere"})
    assert foreign.status_code == 403
    assert (foreign.headers["x-request-id"] == given) == kept
    assert request_id.get() is None


@pytest.mark.parametrize("said", ["serving.queries"], indirect=True)
def test_a_query_is_told_without_its_text(served: Served, said: Said) -> None:
    with serving(served) as client:
        text = f"SELECT '{CANARY}' AS a FROM keys"
        first = ask(client, text)
        client.post("/sql", json={"sql": text}, headers={"X-Request-Id": "mine"})
        ask(client, f"FROM {CANARY.replace('-', '_')}")
    ok, again, refused = said.lines()
    assert ok["id"] == first.headers["x-request-id"]
    assert ok["who"] == "127.0.0.1"
    assert (ok["message"], ok["outcome"], ok["rows"]) == ("query", "ok", first.json()["row_count"])
    assert ok["seconds"] > 0
    assert (again["id"], again["hash"]) == ("mine", ok["hash"])
    assert (refused["outcome"], refused["rows"]) == ("unknown_view", None)
    assert refused["hash"] != ok["hash"]
    assert "hunter2" not in json.dumps([ok, again, refused])
