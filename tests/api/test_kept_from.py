"""A view that keeps its groups by age: a recorded bound that every reader filters by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batch.compiled import Compiled
from batch.retention import Retainer
from batch.settings import Settings
from batch.verify import Served as Answer
from batch.verify import verify
from schemas.ages import Ages, KeptFor
from schemas.bound import Bound
from schemas.errors import BadUse
from schemas.ledger import bounds, builds
from tests.api.world import Row, Served
from tests.engine.batching import EVENT_COLUMNS, NOW, Sealed, ordered
from tests.oracle import Oracle

pytestmark = pytest.mark.slow

VIEWS = {
    "by_day": """SELECT k, date_trunc('day', moment) AS day, count(*) AS hits,
        approx_count_distinct(u) AS visitors FROM hits GROUP BY ALL""",
    "two_times": """SELECT date_trunc('day', moment) AS day, date_trunc('hour', moment) AS hour,
        sum(n) AS total FROM hits GROUP BY ALL""",
    "by_key": "SELECT k, count(*) AS hits FROM hits GROUP BY k",
}
FIRST = datetime(2025, 12, 20)  # noqa: DTZ001
# now is 11:00 of the first of 2026: days from the 27th of December on are kept
KEPT = {"by_day": KeptFor(timedelta(days=5))}
FROM = {"day": "2025-12-27T11:00:00Z"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path, views=VIEWS)
    made.epochs(rows(range(40)), rows(range(20, 60)))
    yield made
    made.ledger.close()


def rows(numbers: Any) -> list[Row]:
    """Some of every sixth hour from the 20th of December on, and one without a time."""
    found = [
        {"k": f"k{at % 3}", "u": at % 7, "n": at, "moment": FIRST + timedelta(hours=6 * at)}
        for at in numbers
    ]
    return [*found, {"k": "k0", "u": 1, "n": 0, "moment": None}]


def build(world: Sealed, view: str, **kept: Any) -> Any:
    full = kept.pop("full", False)
    return world.builder(**kept).all_steps(view, full=full, until=None)


def expected(world: Sealed, epoch: int, since: str) -> list[tuple[Any, ...]]:
    """V's own SELECT, of groups from a day on and of those that have none."""
    oracle = Oracle()
    oracle.fill("hits", EVENT_COLUMNS, world.told[epoch])
    text = VIEWS["by_day"].replace("approx_count_distinct(u)", "count(DISTINCT u)")
    whole = oracle.answer(f"FROM ({text}) WHERE (day >= TIMESTAMP '{since}') IS NOT FALSE")
    return ordered(whole)


def served(world: Sealed) -> Served:
    found = Served(world.state)
    found.catch_up()
    return found


def verified(world: Sealed, answers: Served) -> dict[str, Any]:
    told = answers.coverage("by_day")
    answer = Answer(answers.arrow("FROM by_day"), told["version"], told["epoch"], told["cut"])
    done = verify(
        world.ledger,
        world.root,
        Compiled(world.ledger),
        "by_day",
        answer,
        memory="512MB",
        threads=1,
    )
    return done.json()


def test_a_bound_is_moved_by_a_publication_and_every_reader_filters_by_it(world: Sealed) -> None:
    whole = build(world, "by_day")
    before = served(world)
    assert before.coverage("by_day")["kept_from"] is None
    assert ordered(before.rows("FROM by_day")) == expected(world, 2, "2025-01-01")

    world.epochs(rows(range(50, 55)))
    kept = build(world, "by_day", keep=KEPT)
    assert kept.proof.verdict == "equal"
    assert kept.rows < whole.rows  # its files do not have them any more
    assert world.finished("by_day") == expected(world, 3, "2025-12-28")
    before.catch_up()  # whoever was there already, and whoever comes
    for each in (before, served(world)):
        assert ordered(each.rows("FROM by_day")) == expected(world, 3, "2025-12-28")
        assert each.coverage("by_day")["kept_from"] == FROM
        assert each.coverage("by_key")["kept_from"] is None
        listed = each.rows("SELECT kept_from FROM everview.views WHERE view = 'by_day'")
        assert listed == [('{"day":"2025-12-27T11:00:00Z"}',)]
    assert verified(world, before)["different"] == 0

    # a late event does not bring its group back, neither in speed nor through a build
    world.epoch(rows(range(3, 45)))
    before.catch_up()
    assert ordered(before.rows("FROM by_day")) == expected(world, 4, "2025-12-28")
    assert verified(world, before)["different"] == 0
    world.seal_all()
    for full in (False, True):
        done = build(world, "by_day", keep=KEPT, full=full)
        assert done.proof.verdict == "equal"
        assert world.finished("by_day") == expected(world, 4, "2025-12-28")
    before.catch_up()
    assert ordered(before.rows("FROM by_day")) == expected(world, 4, "2025-12-28")

    # nor does a rollback, nor a setting that was taken back
    builds.rollback(world.ledger, "by_day", whole.publication.id, NOW)
    before.catch_up()
    assert before.coverage("by_day")["cut"] == 2
    assert ordered(before.rows("FROM by_day")) == expected(world, 4, "2025-12-28")
    build(world, "by_day", full=True)
    assert world.finished("by_day") == expected(world, 4, "2025-12-28")


def test_a_bound_moves_without_a_build_and_never_back(world: Sealed) -> None:
    build(world, "by_day")
    answers = served(world)
    later = Bound("day", datetime(2025, 12, 30, tzinfo=UTC))
    assert bounds.move_bound(world.ledger, "by_day", later, NOW)
    assert not bounds.move_bound(world.ledger, "by_day", later, NOW)
    answers.catch_up()
    assert answers.coverage("by_day")["kept_from"] == {"day": "2025-12-30T00:00:00Z"}
    assert ordered(answers.rows("FROM by_day")) == expected(world, 2, "2025-12-30")
    done = build(world, "by_day", keep=KEPT, full=True)  # five days: that is before it
    assert done.proof.verdict == "equal"
    again = served(world)
    assert again.coverage("by_day")["kept_from"] == {"day": "2025-12-30T00:00:00Z"}
    assert ordered(again.rows("FROM by_day")) == expected(world, 2, "2025-12-30")


def test_the_master_is_let_go_of_groups_that_are_not_kept_any_more(world: Sealed) -> None:
    world.epochs(rows(range(50, 55)))
    for view in VIEWS:
        build(world, view)
    later = Bound("day", datetime(2025, 12, 28, tzinfo=UTC))
    bounds.move_bound(world.ledger, "by_day", later, NOW)
    settings = Settings(world.state, memory="512MB", retain=Ages(timedelta(minutes=59, seconds=57)))
    done = Retainer(settings, world.ledger, lambda: NOW, threads=1).retain(world.name)
    assert done.plan.epoch == 2
    full = build(world, "by_day", full=True)
    assert (full.proof.verdict, full.proof.evidence["retention"]["epoch"]) == ("equal", 2)
    assert world.finished("by_day") == expected(world, 3, "2025-12-28")
    told = verified(world, served(world))
    assert (told["different"], told["kept_from"]) == (0, {"day": "2025-12-28T00:00:00Z"})
    assert told["on_base"] + told["own_select"] == told["rows"]


def test_it_must_be_clear_by_which_time(world: Sealed) -> None:
    five = timedelta(days=5)
    with pytest.raises(BadUse, match="it must show a group key of type DATE or TIMESTAMP"):
        build(world, "by_key", keep={"by_key": KeptFor(five)})
    with pytest.raises(BadUse, match=r'by which of day, hour, such as \{keep = "400d", key'):
        build(world, "two_times", keep={"two_times": KeptFor(five)})
    with pytest.raises(BadUse, match="its key must be one of day, hour; got 'week'"):
        build(world, "two_times", keep={"two_times": KeptFor(five, "week")})
    done = build(world, "two_times", keep={"two_times": KeptFor(five, "Hour")})
    assert done.proof.verdict == "equal"
    answers = served(world)
    assert answers.coverage("two_times")["kept_from"] == {"hour": "2025-12-27T11:00:00Z"}
    least = answers.rows("SELECT min(hour), count(*) FILTER (WHERE hour IS NULL) FROM two_times")
    assert least == [(datetime(2025, 12, 27, 12), 1)]  # noqa: DTZ001
