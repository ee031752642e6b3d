"""docs/language.md: its definitions are one project that `check` accepts, its events fit it, what
is called refused is refused for that reason, and its commands work on it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from infra import cli
from schemas import engine
from schemas.errors import DefinitionError
from schemas.project import Project
from tests import pages
from tests.folding import load, records
from tests.pages import Block

LANGUAGE = pages.read(Path(__file__).parents[1] / "docs" / "language.md")
REASON = re.compile(r"-- refused: (.+)")
NOW = datetime(2026, 5, 5, tzinfo=UTC)
at = datetime.fromisoformat
# what the page's expressions are to make of the first event
GENERATED = {
    "rides": {"started": at("2026-05-04 05:58:12"), "os": "ios", "minutes": 18},
    "docks": {
        "moment": at("2026-05-04 08:00"),
        "coldest": 9.25,
        "check_day": date(2026, 5, 3),
        "last_check": at("2026-05-03 05:25"),  # Berlin's summer is two hours ahead
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("language")
    (folder / "rides.ndjson").write_bytes(b"\n".join(LANGUAGE.events("rides")))
    return load(folder, *LANGUAGE.definitions, files=LANGUAGE.files)


def test_the_blocks_are_one_project(project: Project) -> None:
    found = project.definitions

    assert len(LANGUAGE.definitions) == len(LANGUAGE.of("sql")) - len(LANGUAGE.refused) >= 4
    assert len(found.streams) >= 2
    assert len(found.views) >= 3


@pytest.mark.parametrize("stream", GENERATED)
def test_the_events_fit(project: Project, stream: str) -> None:
    compiled = next(each for each in project.streams() if each.name == stream)
    views = [each for each in project.views() if each.stream == stream]
    own = engine.connect()
    for reference in {each for view in views for each in view.references}:
        own.load_reference(reference, project.contents[reference.name].data)

    events = records(LANGUAGE.events(stream))
    folded = own.fold(compiled, views, events, epoch=1, instant=NOW, since=NOW)

    assert folded.accepted == events.num_rows > 0
    assert not folded.suspended
    first = {name: folded.master[name][0].as_py() for name in GENERATED[stream]}
    assert first == GENERATED[stream]


@pytest.mark.parametrize("block", LANGUAGE.refused, ids=lambda block: f"line {block.line}")
def test_what_is_called_refused_is(block: Block, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as refused:
        load(tmp_path, *LANGUAGE.definitions, block.text, files=LANGUAGE.files)

    reason = REASON.search(block.text)
    assert reason is not None
    own = f"{len(LANGUAGE.definitions):03d}.sql"
    assert {each.file for each in refused.value.problems} == {own}
    assert any(reason[1] in each.message for each in refused.value.problems)


def test_the_commands_work(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.folder)
    commands = [line for block in LANGUAGE.of("sh") for line in block.text.splitlines()]

    for command in commands:
        name, *arguments = command.split()
        assert name == "everview"
        assert cli.main(arguments) == 0, (command, capsys.readouterr())
        assert capsys.readouterr().out, command
    assert commands
