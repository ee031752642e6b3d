"""The schema `everview`: what it tells, and that it tells it of the state that is answered from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.catalog import RELATIONS
from tests.api.test_follow import rows
from tests.api.world import Served, World, ask, serving


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Epochs 1 and 2 sealed, 3 sealed apart, 4 not; `by_key` published twice, up to 2 and 3."""
    world = World(tmp_path_factory.mktemp("layered"))
    world.epoch(rows(1, 20))
    world.epoch(rows(2, 20))
    world.seal()
    world.build("by_key")
    world.epoch(rows(3, 20))
    world.seal()
    world.build("by_key", verdict="repair")
    world.build("visitors", until=2)
    world.epoch(rows(4, 20))
    return world


@pytest.fixture(scope="module")
def answers(layered: World) -> Iterator[httpx.Client]:
    served = Served(layered.state)
    served.catch_up()
    with serving(served) as client:
        yield client


def told(client: httpx.Client, sql: str) -> list[list[Any]]:
    answer = ask(client, sql)
    assert answer.status_code == 200, answer.text
    assert answer.json()["coverage"] == []
    found: list[list[Any]] = answer.json()["rows"]
    return found


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_every_relation_answers(answers: httpx.Client, relation: str) -> None:
    assert told(answers, f"FROM everview.{relation}") or relation in ("rejects", "duplicates")
    assert told(answers, f'SELECT count(*) FROM EVERVIEW."{relation}"')
    assert told(answers, f"DESCRIBE everview.{relation}")


def test_views_and_streams(answers: httpx.Client) -> None:
    views = told(
        answers,
        "SELECT view, publication, cut, epoch, position->>'$.0', fresh_as_of, degraded, waits "
        "FROM everview.views WHERE view IN ('by_key', 'keys') ORDER BY view",
    )
    assert views == [
        ["by_key", 2, 3, 4, "80", "2026-01-01T10:00:04Z", None, None],
        ["keys", None, 0, 4, "80", "2026-01-01T10:00:04Z", None, None],
    ]
    streams = told(answers, "SELECT stream, topic, epoch, sealed, degraded FROM everview.streams")
    assert streams == [["hits", "hits", 4, 3, None]]


def test_handoff(answers: httpx.Client) -> None:
    found = told(answers, "SELECT * EXCLUDE version FROM everview.handoff ORDER BY view")
    assert [row for row in found if row[0] in ("by_key", "keys", "visitors")] == [
        ["by_key", 3, 3, 1, 0, 0, "[]"],
        ["keys", 0, 0, 4, 0, 0, "[]"],
        ["visitors", 2, 2, 2, 0, 0, "[]"],
    ]


def test_freshness(answers: httpx.Client) -> None:
    """The rows of the world are of one moment in 2026, the same in each epoch."""
    sql = "SELECT stream, partition, epoch, instant, read_to FROM everview.freshness"
    assert told(answers, sql) == [
        ["hits", 0, 4, "2026-01-01T10:00:04Z", "2026-01-01T10:00:04Z"],
    ]
    sql = "SELECT cut, published FROM everview.views WHERE view = 'visitors'"
    ((cut, published),) = told(answers, sql)
    assert cut == 2
    assert published.startswith("2026-01-01T10:0")


def test_publications_and_proofs(answers: httpx.Client) -> None:
    sql = "SELECT publication, view, cut, kind, replaced IS NULL FROM everview.publications"
    assert told(answers, f"{sql} ORDER BY 1") == [
        [1, "by_key", 2, "build", False],
        [2, "by_key", 3, "repair", True],
        [3, "visitors", 2, "build", True],
    ]
    proofs = told(answers, "SELECT build, verdict, evidence FROM everview.proofs ORDER BY 1")
    assert proofs[1] == [2, "repair", '{"partials": [{"built": 1}]}']


def test_versions(answers: httpx.Client) -> None:
    sql = "SELECT state, first_epoch FROM everview.versions WHERE view = 'by_key'"
    assert told(answers, sql) == [["served", 1]]


def test_epochs(answers: httpx.Client) -> None:
    sql = "SELECT first_epoch, last_epoch, sealed, accepted FROM everview.epochs ORDER BY 1"
    assert told(answers, sql) == [[1, 2, True, 40], [3, 3, True, 20], [4, 4, False, 20]]
    sql = (
        "SELECT e.position FROM everview.epochs e JOIN everview.views v ON v.epoch = e.last_epoch "
        "WHERE view = 'keys' AND e.position = v.position::VARCHAR"
    )
    assert told(answers, sql) == [['{"0":80}']]


def test_epochs_are_listed_with_the_state_that_counts_them(world: World) -> None:
    served = Served(world.state)
    served.catch_up()
    counted = "SELECT coalesce(sum(accepted), 0)::BIGINT, max(last_epoch) FROM everview.epochs"
    for seed in range(1, 5):
        world.epoch(rows(seed, 20))
        served.step(0.01)
        assert served.rows(counted) == [(20 * seed, seed)]
    world.seal(3)
    world.epoch(rows(9, 20))
    served.step(2)
    assert served.rows(counted) == [(100, 5)]
    assert served.rows("SELECT sealed FROM everview.streams") == [(3,)]
    assert served.rows("SELECT count(*) FROM everview.epochs") == [(3,)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_measures(answers: httpx.Client) -> None:
    sql = "SELECT \"column\", class, bound FROM everview.measures WHERE view = 'visitors'"
    assert told(answers, sql) == [
        ["k", "exact", "none"],
        ["visitors", "approximate", "standard error 1.1 %"],
    ]


def test_a_statement_over_both_covers_its_views(answers: httpx.Client) -> None:
    sql = (
        "SELECT (SELECT sum(hits) FROM by_key), max(epoch) FROM everview.views "
        "WHERE view = 'by_key'"
    )
    answer = ask(answers, sql).json()
    assert answer["rows"] == [[80, 4]]
    assert [each["view"] for each in answer["coverage"]] == ["by_key"]


@pytest.mark.parametrize(
    "name",
    [
        "everview.coverage",
        "everview.nothing",
        "everview.by_key",
        "views",
        "memory.everview.views",
        "main.views",
        '"everview.views"',
        "everview_internal.coverage",
        "everview.main.by_key",
    ],
)
def test_other_names_are_refused(answers: httpx.Client, name: str) -> None:
    refused = ask(answers, f"FROM {name}")
    assert refused.status_code == 404, refused.text
    message = refused.json()["error"]["message"]
    assert "must be" in message
    if name == "everview.nothing":
        assert message == (
            "name 'everview.nothing' must be in schema 'everview'; there is: duplicates, epochs, "
            "freshness, handoff, measures, proofs, publications, rejects, streams, versions, views"
        )


def test_show_tables_shows_no_relation_of_the_schema(answers: httpx.Client) -> None:
    names = {row[0] for row in told(answers, "SHOW TABLES")}
    assert not names & RELATIONS


def test_before_anything_is_deployed(tmp_path: Path) -> None:
    served = Served(tmp_path)
    with serving(served) as client:
        for relation in RELATIONS:
            assert ask(client, f"FROM everview.{relation}").json()["rows"] == []


def test_routes_tell_of_the_publication(answers: httpx.Client) -> None:
    view = answers.get("/views/by_key").json()
    assert (view["cut"], view["publication"]) == (3, 2)
    assert view["coverage"]["cut"] == 3
