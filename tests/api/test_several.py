"""Several queries in one request: each has its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from serving.envelope import Code, RequestError
from serving.front import sql as route
from serving.query import Reply
from tests.api.scripted import Scripted, reply
from tests.api.test_error_shape import error
from tests.api.world import Served, http


def test_each_has_its_own_answer_in_order(client: httpx.Client, served: Served) -> None:
    queries: list[Any] = [
        {"sql": "SELECT hits FROM by_key WHERE k = ?", "params": ["a"]},
        {"sql": "SELEC"},
        {"sql": "FROM range(9)", "max_rows": 3},
        {"sql": "SELECT 9007199254740993"},
        {"sql": "FROM nowhere"},
        {"sql": "SELECT 1", "nonsense": 1},
        {"sql": "SELECT 1", "format": "csv"},
        {"params": []},
        "SELECT 1",
        {"sql": "SELECT count(*) FROM range(100000000000)", "timeout_ms": 50},
        {"sql": "SELECT 1::BIGINT", "integers": "number"},
    ]
    body = {"queries": queries, "integers": "string", "max_rows": 100}
    answer = client.post("/sql", json=body, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["everview-source"] == "worker=4"
    assert answer.json().keys() == {"answers"}
    found = answer.json()["answers"]

    assert [each.get("rows") or each["error"]["code"] for each in found] == [
        [["2"]],
        "bad_sql",
        [["0"], ["1"], ["2"]],
        [["9007199254740993"]],
        "unknown_view",
        *["bad_request"] * 4,
        "deadline",
        [[1]],
    ]
    assert found[0]["coverage"] == [served.coverage("by_key")]
    assert found[2]["truncated"] is True
    assert (found[1]["error"]["line"], found[1]["error"]["column"]) == (1, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"queries": []},
        {"queries": {}},
        {"queries": [{"sql": "SELECT 1"}] * 101},
    ],
)
def test_requests_that_cannot_be_meant(client: httpx.Client, body: dict[str, Any]) -> None:
    assert error(client.post("/sql", json=body))["code"] == "bad_request"


def test_they_run_at_once_and_within_the_time_of_the_request() -> None:
    running, most = 0, 0
    together = asyncio.Event()

    async def meet() -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == route.AT_ONCE:
            together.set()
        await together.wait()
        await asyncio.sleep(0.02)
        running -= 1
        return await reply(b"{}")()

    async def slow() -> Reply:
        await asyncio.sleep(0.15)
        raise RequestError(Code.DEADLINE, "too late")

    scripted = Scripted({"meet": meet, "slow": slow})
    with http(scripted) as client:
        answer = client.post("/sql", json={"queries": [{"sql": "meet"}] * 100})
        assert answer.json()["answers"] == [{}] * 100
        assert most == route.AT_ONCE
        times = [timeout for _, _, timeout in scripted.asked]
        assert max(times) <= 10_000
        assert times[-1] < 9_980  # it waited for its turn

        scripted.asked.clear()
        late = {"queries": [{"sql": "slow"}] * 20, "timeout_ms": 100}
        answers = client.post("/sql", json=late).json()["answers"]
        assert {each["error"]["code"] for each in answers} == {"deadline"}
        assert len(scripted.asked) == route.AT_ONCE  # the others did not begin


def test_what_breaks_off_or_is_too_large_does_not_spoil_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(route, "ANSWERS_BYTES", 1000)
    closed = []

    async def broken() -> AsyncGenerator[bytes]:
        yield b'{"rows": ['
        raise RequestError(Code.INTERNAL, "the worker died")

    async def endless() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 600
        finally:
            closed.append("endless")

    async def parts() -> AsyncGenerator[bytes]:
        yield b'{"rows"'
        yield b": []}"

    scripted = Scripted(
        {
            "broken": lambda: reply(broken())(),
            "endless": lambda: reply(endless())(),
            "parts": lambda: reply(parts())(),
        }
    )
    with http(scripted) as client:
        names = ("parts", "broken", "parts", "endless")
        body = {"queries": [{"sql": name} for name in names]}
        answer = client.post("/sql", json=body).json()["answers"]
    assert answer[0] == answer[2] == {"rows": []}
    assert [answer[at]["error"]["code"] for at in (1, 3)] == ["internal", "too_large"]
    assert closed == ["endless"]
