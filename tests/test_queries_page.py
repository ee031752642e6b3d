"""docs/queries.md: every block is run against a real server, and prints what stands below it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra import cli
from infra.asking import TOKEN
from serving.envelope import STATUSES
from serving.formats.media import NAMES
from serving.front.requests import FIELDS
from tests import pages
from tests.api.sealed import SealedWorld
from tests.api.test_run import Process
from tests.api.waiting import wait
from tests.pages import Block

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[1] / "docs" / "queries.md"
QUERIES = pages.read(FILE)
ADDRESS = "http://127.0.0.1:8080"
SHELL = {"sh": "", "sh tokens": "tokens"}  # by what stands at the fence: which server


@dataclass(frozen=True)
class Servers:
    """Two over the same views: one lets anybody ask, the other those of `tokens`."""

    anybody: httpx.Client
    tokens: httpx.Client
    folder: Path
    token: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("queries")
    stream, *views = QUERIES.definitions
    named = {text.split()[2]: text.partition(" AS")[2].rstrip(";\n ") for text in views}
    world = SealedWorld(folder, stream=stream, views=named)
    events = QUERIES.events("sales")
    world.epoch(events[:3])
    world.seal_all()
    world.build("shops")
    world.epoch(events[3:], suspend={"hours": "its definition failed for an event"})
    (command,) = [block.text for block in QUERIES.of("sh") if block.about == "token"]
    name, *arguments = command.split()
    assert name == "everview"
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()):
        assert cli.main([*arguments, "--project", str(folder)]) == 0
    copy = folder / "copy"
    shutil.copytree(world.state, copy)
    world.ledger.close()
    started = [Process(world.state), Process(copy, "--tokens", str(folder / "tokens"))]
    try:
        anybody, tokens = (httpx.Client(base_url=each.until("running")) for each in started)
        with anybody, tokens:
            raw = {"q": "FROM raw.sales"}
            wait(lambda: anybody.get("/sql", params=raw).status_code == 200)
            yield Servers(anybody, tokens, folder, told.getvalue().strip())
    finally:
        for each in started:
            assert each.end(signal.SIGTERM)[0] == 0


def test_every_block_prints_what_stands_below_it(servers: Servers) -> None:
    shared: dict[str, Any] = {}
    wrong, compared = [], 0
    for block, following in zip(QUERIES.blocks, [*QUERIES.blocks[1:], None], strict=True):
        printed = _run(block, servers, shared)
        if printed is None:
            assert block.kind in ("sql", "json", "text") or block.about == "token", block.line
            continue
        assert following is not None
        assert following.about == "output", block.line
        compared += 1
        if not _fits(following.text, printed):
            wrong.append((block.line, printed))

    assert wrong == []
    assert compared == len([block for block in QUERIES.blocks if block.about == "output"]) >= 12


def test_the_commands_at_the_top_work(servers: Servers) -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    commands = [line.strip().split("   ")[0] for line in lines if line.startswith("    curl")]
    for command in commands:
        assert _shell(command, servers.anybody, servers).startswith("{"), command
    assert len(commands) == 2


def test_every_error_and_every_option_is_told() -> None:
    page = FILE.read_text(encoding="utf-8")
    errors, options = page.partition("## Errors")[2], page.partition("## Options")[2]
    for code, status in STATUSES.items():
        assert re.search(rf"^\| {status} \| [^|]*`{code}`", errors, re.MULTILINE), code
    told = set(re.findall(r"^\| `(\w+)`", options.partition("## ")[0], re.MULTILINE))
    assert told == FIELDS
    told_formats = page.partition("## Formats")[2].partition("## ")[0]
    for name, kind in NAMES.items():
        assert f"| `{name}` | `{kind}` |" in told_formats


def _run(block: Block, servers: Servers, shared: dict[str, Any]) -> str | None:
    """What a block prints; None where it is nothing to run."""
    if block.kind == "python":
        told = io.StringIO()
        text = block.text.replace(ADDRESS, str(servers.anybody.base_url).rstrip("/"))
        with contextlib.redirect_stdout(told):
            exec(compile(text, f"{FILE.name}:{block.line}", "exec"), shared)
        return told.getvalue()
    if block.kind != "sh" or block.about == "token":
        return None
    client = servers.tokens if block.about == "tokens" else servers.anybody
    return _shell(block.text, client, servers)


def _shell(text: str, client: httpx.Client, servers: Servers) -> str:
    environment: Mapping[str, str] = {**os.environ, TOKEN: servers.token, "no_proxy": "*"}
    done = subprocess.run(
        ["bash", "-c", text.replace(ADDRESS, str(client.base_url).rstrip("/"))],
        capture_output=True,
        text=True,
        cwd=servers.folder,
        env=environment,
        timeout=60,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def _fits(told: str, printed: str) -> bool:
    """Whether that was printed, apart from how it is folded into lines; `...` is anything."""
    pieces = [re.escape(_flat(piece)) for piece in told.split("...")]
    return re.fullmatch(".*?".join(pieces), _flat(printed), re.DOTALL) is not None


def _flat(text: str) -> str:
    return re.sub(r"\s+", "", text)
