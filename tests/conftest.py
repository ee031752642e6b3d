"""Fixtures for every kind of test."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from schemas import definitions
from schemas.definitions import Definitions
from schemas.errors import Problem
from schemas.language.statement import Statement

# A busy machine is no failure: what a test may cost is not what a property states.
settings.register_profile(
    "everview", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everview")


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests/golden: write what is emitted now; the difference is what a review reads."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*.sql")


@pytest.fixture(scope="session", autouse=True)
def definitions_are_read_once() -> Iterator[None]:
    """What statements mean depends on nothing but them: hundreds of tests begin with the same few,
    and to read them is a quarter of what such a test takes."""
    read = definitions.read
    known: dict[object, tuple[Definitions, list[Problem]]] = {}

    def remembered(
        statements: Iterable[Statement], unread: Iterable[str] = ()
    ) -> tuple[Definitions, list[Problem]]:
        listed, others = list(statements), tuple(unread)
        key = (others, *((each, each.tokens[0].start) for each in listed))
        if key not in known:
            known[key] = read(listed, others)
        found, problems = known[key]
        return found, list(problems)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definitions, "read", remembered)
        yield


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty state folder."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def now() -> datetime:
    """The fixed clock."""
    return datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)


@pytest.fixture
def free_port() -> int:
    """A loopback port that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
