"""everview.toml: defaults, overrides, and every refusal with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import settings
from schemas.errors import DefinitionError


def problems(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    (folder / "everview.toml").write_text(text, encoding="utf-8")
    with pytest.raises(DefinitionError) as raised:
        settings.load(folder, environment or {})
    return [str(problem) for problem in raised.value.problems]


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    found = settings.load(tmp_path, {})

    assert found.kafka.own
    assert found.streaming.master == "local[2,4]"
    assert (found.serving.host, found.serving.port) == ("127.0.0.1", 0)


def test_a_file_and_then_the_environment_override(tmp_path: Path) -> None:
    text = '[kafka]\nbootstrap_servers = "a:1,b:2"\nport = 9092\n\n[serving]\nport = 8080\n'
    (tmp_path / "everview.toml").write_text(text)
    environment = {"EVERVIEW_SERVING_PORT": "81", "EVERVIEW_KAFKA_CREATE_TOPICS": "true"}

    found = settings.load(tmp_path, environment)

    assert not found.kafka.own
    assert (found.kafka.port, found.serving.port, found.kafka.create_topics) == (9092, 81, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[kafka\n",
            "everview.toml:1:7: must be TOML; Expected ']' at the end of a table declaration",
        ),
        ("[kafak]\n", "everview.toml:1:2: unknown section [kafak]; did you mean 'kafka'?"),
        ("kafka = 3\n", "everview.toml:1:1: [kafka] must be a section; got 3"),
        (
            "# ports\n[kafka]\n  prot = 9092\n",
            "everview.toml:3:3: unknown setting kafka.prot; did you mean 'port'?",
        ),
        (
            "[kafka]\nport = '9092'\n",
            "everview.toml:2:1: kafka.port must be 0 (a free port) to 65535; got '9092'",
        ),
        (
            "[serving]\nport = 99999999999999999999\n",
            "everview.toml:2:1: serving.port must be 0 (a free port) to 65535; "
            "got 99999999999999999999",
        ),
        (
            "[streaming]\nmax_events_per_epoch = -1\n",
            "everview.toml:2:1: streaming.max_events_per_epoch must be 1 to 100000000; got -1",
        ),
        (
            "kafka.port = true\n",
            "everview.toml:1:7: kafka.port must be 0 (a free port) to 65535; got True",
        ),
        (
            "[serving]\nhost = '0.0.0.0'\n",
            "everview.toml:2:1: serving.host must be one of 127.0.0.1, localhost, ::1: "
            "there is no login; got '0.0.0.0'",
        ),
        (
            "[kafka]\nbootstrap_servers = 'broker'\n",
            "everview.toml:2:1: kafka.bootstrap_servers must be HOST:PORT[,HOST:PORT...], "
            "or '' for a broker of the stack's own; got 'broker'",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


def test_every_problem_is_listed(tmp_path: Path) -> None:
    text = "[kafka]\nheap = '1 TB'\nx = 1\n[streaming]\nmaster = 'mesos'\n"

    found = problems(tmp_path, text, {"EVERVIEW_SERVING_PORT": "many"})

    assert [line.partition(": ")[0] for line in found] == [
        "$EVERVIEW_SERVING_PORT:1:1",
        "everview.toml:2:1",
        "everview.toml:3:1",
        "everview.toml:5:1",
    ]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "everview.toml").write_bytes(b"[kafka]\nheap = '\xff'\n")

    with pytest.raises(DefinitionError, match=r"everview\.toml:2:1: must be UTF-8"):
        settings.load(tmp_path, {})


def test_an_unknown_variable_of_a_section_is_refused(tmp_path: Path) -> None:
    expected = "EVERVIEW_KAFKA_PROT:1:1: unknown setting kafka.prot; did you mean 'port'"
    assert expected in problems(tmp_path, "", {"EVERVIEW_KAFKA_PROT": "1"})[0]
