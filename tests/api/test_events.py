"""`/events`: a word for every new state."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.api.scripted import Scripted
from tests.api.test_error_shape import error
from tests.api.waiting import wait
from tests.api.world import VIEWS, Served, World, http, serving

MARKS = ["view", "version", "cut", "epoch", "fresh_as_of", "degraded"]


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The id and what is told, of each event."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and fields:
            assert fields["event"] == "state"
            yield fields["id"], json.loads(fields["data"])
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def view(epoch: int) -> dict[str, Any]:
    return {"coverage": {**dict.fromkeys(MARKS), "view": "v", "epoch": epoch}}


def test_a_new_state_is_told_and_one_that_is_known_is_not(tmp_path: Any) -> None:
    world = World(tmp_path)
    world.epoch([{"k": "a"}])
    served = Served(world.state)
    served.catch_up()
    with serving(served) as client:
        with client.stream("GET", "/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in answer.headers
            told = events(answer)
            first, state = next(told)
            assert [each["view"] for each in state["views"]] == sorted(VIEWS)
            assert {each["epoch"] for each in state["views"]} == {1}
            world.epoch([{"k": "b"}])
            served.catch_up()
            second, state = next(told)
            assert {each["epoch"] for each in state["views"]} == {2}
            assert list(state["views"][0]) == MARKS
        with client.stream("GET", "/events", headers={"Last-Event-ID": first}) as answer:
            assert next(events(answer))[0] == second
        with client.stream("GET", "/events", headers={"Last-Event-ID": second}) as answer:
            told = events(answer)
            world.epoch([{"k": "c"}])
            served.catch_up()
            third, state = next(told)
            assert third not in (first, second)
            assert {each["epoch"] for each in state["views"]} == {3}
    served.close()
    world.ledger.close()


def test_listeners_are_bounded_and_cost_nothing_when_they_left(monkeypatch: Any) -> None:
    monkeypatch.setattr("serving.front.events.LOOK_SECONDS", 0.01)
    scripted = Scripted()
    scripted.seen = {"v": view(1)}
    looks = 0
    seen = scripted.views

    def counted() -> dict[str, dict[str, Any]]:
        nonlocal looks
        looks += 1
        return seen()

    monkeypatch.setattr(scripted, "views", counted)
    monkeypatch.setattr("serving.front.events.LISTENERS", 2)
    with http(scripted) as client:
        assert looks == 0
        with client.stream("GET", "/events") as one, client.stream("GET", "/events") as two:
            told = events(one), events(two)
            assert next(told[0]) == next(told[1])
            refused = client.get("/events")
            assert error(refused)["code"] == "queue_full"
            assert client.head("/events").status_code == 429
        wait(lambda: client.head("/events").status_code == 200)
        before = looks
        time.sleep(0.1)
        assert looks - before <= 1
        with client.stream("GET", "/events") as again:
            assert next(events(again))[1]["views"][0]["epoch"] == 1


def test_they_end_with_the_server() -> None:
    scripted = Scripted()
    scripted.seen = {"v": view(1)}
    listening, told, ended = threading.Event(), [], []

    def listen(base: httpx.URL) -> None:
        with httpx.Client(base_url=base, timeout=30) as own, own.stream("GET", "/events") as answer:
            for each in events(answer):
                told.append(each)
                listening.set()
            ended.append("clean")

    with http(scripted) as client:
        thread = threading.Thread(target=listen, args=(client.base_url,))
        thread.start()
        assert listening.wait(5)
    thread.join(5)
    assert not thread.is_alive()
    assert len(told) == 1
    assert ended == ["clean"]
