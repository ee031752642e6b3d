"""How long events are kept: what everview.toml may say, what `everview retain` does and says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from batch import run as batch_run
from infra import batching, cli, dags, jars, settings
from infra.parts import streaming as streaming_part
from schemas import project
from schemas.ages import Ages, KeptFor, keep_flags, parse_keep
from schemas.errors import DefinitionError
from schemas.ledger import retention, tables
from schemas.ledger.files import BATCH
from streaming.run import parse
from tests.engine.batching import Sealed, events
from tests.engine.test_batch_proof import alter, file_of

VIEWS = {"tally": "SELECT k, count(*) AS hits FROM hits GROUP BY k"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Sealed]:
    made = Sealed(tmp_path, views=VIEWS)
    made.epochs(events(40), events(60, start=30))
    made.epochs(events(50, start=90))
    made.builder().all_steps("tally", full=False, until=None)
    yield made
    made.ledger.close()


def verb(world: Sealed, *arguments: str) -> int:
    name, *rest = arguments
    return cli.main([name, *rest, "--state", str(world.state), "--project", str(world.state)])


def kept_for(world: Sealed, text: str) -> None:
    (world.state / "everview.toml").write_text(text)


# ---- the settings


def test_ages_of_streams(tmp_path: Path) -> None:
    text = '[retention]\nmaster = "90d"\n[retention.streams]\nFlights = "12 hours"\nhits = ""\n'
    (tmp_path / "everview.toml").write_text(text)
    found = settings.load(tmp_path, {}).retention
    ages = found.ages
    assert ages == Ages(timedelta(days=90), {"flights": timedelta(hours=12), "hits": None})
    assert [ages.of(name) for name in ("FLIGHTS", "hits", "other")] == [
        timedelta(hours=12),
        None,
        timedelta(days=90),
    ]
    assert [ages.span(name) for name in ("flights", "hits", "other")] == [
        timedelta(hours=1.2),
        None,
        timedelta(days=9),
    ]
    assert Ages(timedelta(hours=2)).span("x") == timedelta(hours=1)
    assert [each.message for each in found.wrong(["flights"], {})] == [
        "retention.streams.hits must name a stream; known: flights"
    ]
    own = {"EVERVIEW_RETENTION_MASTER": "7d", "EVERVIEW_RETENTION_STREAMS_FLIGHTS": "1 day"}
    over = settings.load(tmp_path, own).retention.ages
    assert (over.of("x"), over.of("Flights"), over.of("hits")) == (
        timedelta(days=7),
        timedelta(days=1),
        None,
    )
    assert settings.load(tmp_path / "none", {}).retention.ages == Ages()


def test_what_is_no_age_is_told_with_its_place(tmp_path: Path) -> None:
    text = '[retention]\nmaster = "90 d"\nmastr = "1d"\n[retention.streams]\na = "5 seconds"\n'
    (tmp_path / "everview.toml").write_text(text + 'b = "2d"\nB = "1d"\nc = 3\n')
    with pytest.raises(DefinitionError) as caught:
        settings.load(tmp_path, {"EVERVIEW_RETENTION_STREAMS_X": "ever"})
    told = {each.line: each.message.partition(";")[0] for each in caught.value.problems}
    assert list(told) == [1, 2, 3, 5, 7, 8]
    assert told[3] == "unknown setting retention.mastr"
    assert told[5].startswith("retention.streams.a must be '' (for ever), or a span of time")
    assert told[7] == "retention.streams.B must stand once, whatever its case"


def test_the_layers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ages = Ages(timedelta(days=90), {"flights": timedelta(hours=12), "hits": None})
    assert ages.flags() == [
        *("--retain", "7776000", "--retain", "flights=43200", "--retain", "hits="),
    ]
    state = ["--state", str(tmp_path)]
    assert parse([*state, "--bootstrap-servers", "x:1", *ages.flags()]).retain == ages
    assert batch_run.parse([*state, "v", *ages.flags()]).settings.retain == ages
    (tmp_path / "everview.toml").write_text('[retention]\nmaster = "90d"\n')
    chosen = settings.load(tmp_path, {})
    assert batching.flags(chosen)[-2:] == ["--retain", "7776000"]
    monkeypatch.setattr(jars, "connector_jars", lambda: [tmp_path / "a.jar"])
    part = streaming_part.part(
        tmp_path,
        "x:1",
        master="local",
        memory="1g",
        max_events=1,
        create_topics=False,
        seal_every=timedelta(0),
        seal_bytes=1,
        keep_removed=timedelta(0),
        retain=chosen.retention.ages,
    )
    assert part.command[-2:] == ("--retain", "7776000")
    with pytest.raises(SystemExit):
        batch_run.parse([*state, "v", "--retain", "ever"])


def test_a_stream_that_is_not_there_is_a_problem_of_the_project(world: Sealed) -> None:
    kept_for(world, '[retention.streams]\nhitz = "1d"\n')
    loaded = project.load(world.state.parent / "project")
    with pytest.raises(DefinitionError, match="did you mean 'hits'"):
        dags.check(settings.load(world.state, {}), loaded)


# ---- the verb


def test_without_an_age_nothing_goes(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(world, "retain") == 0
    assert "everything is kept for ever" in capsys.readouterr().out
    kept_for(world, '[retention]\nmaster = "1d"\n[retention.streams]\nhits = ""\n')
    assert verb(world, "retain", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_plan_then_retain_then_verify(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    kept_for(world, '[retention]\nmaster = "90d"\n')  # its events are of the first of 2026
    assert verb(world, "retain", "--plan") == 0
    said = capsys.readouterr().out
    assert "stream hits: 150 events and 0 rejects of epochs 1..3 (" in said
    assert retention.retained_until(world.ledger, "hits") == 0
    assert verb(world, "retain", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["retained"], told["epoch"], told["events"], told["holds"]) == (True, 3, 150, [])
    assert verb(world, "retain") == 0
    assert capsys.readouterr().out == "stream hits: nothing is older than it is to be kept\n"
    assert verb(world, "verify", "tally") == 0
    said = capsys.readouterr().out
    assert "6 of them count events up to epoch 3 that retention removed" in said
    assert verb(world, "status", "--json") == 1  # nothing runs
    assert json.loads(capsys.readouterr().out)["streams"]["hits"]["retained"] == 3


def test_a_difference_is_exit_code_1(world: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    kept_for(world, '[retention]\nmaster = "90d"\n')
    alter(world, file_of(world, BATCH, world.folding.view("tally").version), "_count_0")
    assert verb(world, "retain") == 1
    said = capsys.readouterr().err
    assert "stream hits: NOT RETAINED: base of stream 'hits' up to epoch 3" in said
    assert "Nothing was removed" in said
    assert verb(world, "retain", "--json") == 1
    assert "it differs" in json.loads(capsys.readouterr().out)[0]["error"]


# ---- after a publication


def test_a_publication_retains_where_it_is_due(
    world: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(world.state), "--step", "publish"]
    again = [*state, "--build", "1", "--retain"]
    # three seconds of events have become old: that is not worth reading the master for
    assert batch_run.main([*again, "7776000"]) == 0
    assert retention.retained_until(world.ledger, "hits") == 0
    with world.ledger.write() as connection:
        s = tables.sealed.c
        early = datetime(2025, 1, 1, tzinfo=UTC)
        first = update(tables.sealed).where(s.from_epoch == 1)
        connection.execute(first.values(from_instant=early))
    batch = file_of(world, BATCH, world.folding.view("tally").version)
    whole = world.root.get(batch.file)
    is_batch = tables.files.c.path == batch.file.path
    before = {"sha256": batch.file.sha256, "bytes": batch.file.bytes}
    alter(world, batch, "_count_0")
    assert batch_run.main([*again, "7776000"]) == 1  # loud, and published all the same
    assert "NOT RETAINED: base of stream 'hits'" in capsys.readouterr().err
    assert retention.retained_until(world.ledger, "hits") == 0
    with world.ledger.write() as connection:
        connection.execute(update(tables.files).where(is_batch).values(before))
    world.root.local(batch.file.path).write_bytes(whole)
    assert batch_run.main([*again, "7776000"]) == 0
    said = capsys.readouterr().err
    assert "retention: stream hits: 150 events and 0 rejects of epochs up to 3" in said
    assert retention.retained_until(world.ledger, "hits") == 3


# ---- views


def test_ages_of_views(tmp_path: Path) -> None:
    text = '[retention.views]\nby_day = "400d"\nHours = {keep = "12 hours", key = "hour"}\n'
    (tmp_path / "everview.toml").write_text(text + 'old = ""\n')
    found = settings.load(tmp_path, {"EVERVIEW_RETENTION_VIEWS_MORE": "2d"}).retention
    kept = {
        "by_day": KeptFor(timedelta(days=400)),
        "hours": KeptFor(timedelta(hours=12), "hour"),
        "more": KeptFor(timedelta(days=2)),
    }
    assert found.keep == kept
    assert parse_keep(keep_flags(kept)[1::2]) == kept
    assert batch_run.parse(["--state", "s", "v", *keep_flags(kept)]).settings.keep == kept
    views = {"by_day": ("day",), "hours": ("day", "hour"), "old": ()}
    assert [each.message for each in found.wrong([], views)] == [
        "retention.views.more must name a view; known: by_day, hours, old"
    ]
    views = {"by_day": ("day", "hour"), "hours": ("day",), "old": (), "more": ()}
    assert [each.message for each in found.wrong([], views)] == [
        "retention.views.by_day cannot be kept: it must be said by which of day, hour, such as "
        '{keep = "400d", key = "day"}',
        "retention.views.Hours cannot be kept: its key must be one of day; got 'hour'",
        "retention.views.more cannot be kept: it must show a group key of type DATE or TIMESTAMP; "
        "it has none",
    ]
    (tmp_path / "everview.toml").write_text('[retention.views]\na = {keep = "1d"}\nb = 3\n')
    with pytest.raises(DefinitionError) as caught:
        settings.load(tmp_path, {})
    assert [each.line for each in caught.value.problems] == [2, 3]
    assert "{keep = " in caught.value.problems[0].message


def test_retain_moves_the_bound_of_a_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hourly = "SELECT time_bucket(INTERVAL '1 hour', moment) AS hour, count(*) FROM hits GROUP BY 1"
    world = Sealed(tmp_path, views={"hourly": hourly, "tally": VIEWS["tally"]})
    kept_for(world, '[retention.views]\nhourly = "1d"\n')
    world.epochs(events(40))
    world.builder().all_steps("hourly", full=False, until=None)
    assert verb(world, "retain", "--plan", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)[0]["kept_from"]) == ["hour"]
    assert verb(world, "verify", "hourly", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["kept_from"] is None
    assert verb(world, "retain") == 0
    assert capsys.readouterr().out.startswith("view hourly: groups with hour from 20")
    assert verb(world, "verify", "hourly", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["different"], list(told["kept_from"])) == (0, 0, ["hour"])
    kept_for(world, '[retention.views]\ntally = "1d"\n')
    assert verb(world, "retain") == 1
    assert "view tally: NOT RETAINED" in capsys.readouterr().err
    world.ledger.close()
