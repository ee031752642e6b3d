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


def test_an_address_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    variable = {"EVERVIEW_SERVING_HOST": "0.0.0.0"}
    refused = "$EVERVIEW_SERVING_HOST:1:1: serving.host must be one of 127.0.0.1, localhost, ::1"

    (found,) = problems(tmp_path, "", variable)
    assert found.startswith(refused)
    (tmp_path / "everview.toml").write_text('[serving]\ntokens = "tokens"\n')
    chosen = settings.load(tmp_path, variable).serving
    assert (chosen.host, chosen.near, chosen.tokens) == ("0.0.0.0", "127.0.0.1", "tokens")


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
            "everview.toml:2:1: serving.host must be one of 127.0.0.1, localhost, ::1 while "
            "serving.tokens names no file that says who may ask; got '0.0.0.0'",
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


def test_schedules_of_views(tmp_path: Path) -> None:
    text = '[rebuild]\ncarrier_day = "0 3 * * *"\nEverything = "never"\n'
    (tmp_path / "everview.toml").write_text(text)

    found = settings.load(tmp_path, {"EVERVIEW_REBUILD_CARRIER_DAY": "@weekly"}).rebuild

    assert found.of("Carrier_Day") == "@weekly"
    assert found.of("everything") == "never"
    assert found.of("others") is None
    assert settings.load(tmp_path, {}).rebuild.of("carrier_day") == "0 3 * * *"


SCHEDULES = (
    "@hourly, @daily, @weekly, @monthly, a cron expression of five fields such as '0 3 * * *', "
    "or 'never'"
)


@pytest.mark.parametrize(
    ("text", "place", "got"),
    [
        ("[rebuild]\nday = 'every hour'\n", "2:1: rebuild.day", "'every hour'"),
        ("[rebuild]\n\n  day = '0 3 * *'\n", "3:3: rebuild.day", "'0 3 * *'"),
        ("rebuild.day = 24\n", "1:9: rebuild.day", "24"),
        ("[rebuild]\nday = '61 * * * *'\n", "2:1: rebuild.day", "'61 * * * *'"),
        ("[rebuild]\nday = '0 0 31 2 *'\n", "2:1: rebuild.day", "'0 0 31 2 *'"),
    ],
)
def test_a_wrong_schedule_is_refused(tmp_path: Path, text: str, place: str, got: str) -> None:
    expected = f"everview.toml:{place} must be {SCHEDULES}; got {got}"
    assert problems(tmp_path, text) == [expected]


def test_a_schedule_stands_once(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "[rebuild]\nday = 'never'\nDAY = '@daily'\n")
    assert found == "everview.toml:3:1: rebuild.DAY must stand once, whatever its case"
    (found,) = problems(tmp_path, "", {"EVERVIEW_REBUILD_DAY": "soon"})
    assert found.startswith("$EVERVIEW_REBUILD_DAY:1:1: rebuild.day must be @hourly")


def test_a_schedule_of_no_view_is_told_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "everview.toml").write_text("[rebuild]\ncarrier_dya = '@daily'\n")
    found = settings.load(tmp_path, {}).rebuild

    (problem,) = found.unknown(["Carrier_Day", "everything"])

    told = "everview.toml:2:1: rebuild.carrier_dya must name a view; did you mean 'carrier_day'?"
    assert str(problem) == told
    assert found.unknown(["CARRIER_DYA"]) == []


def test_an_unknown_variable_of_a_section_is_refused(tmp_path: Path) -> None:
    expected = "EVERVIEW_KAFKA_PROT:1:1: unknown setting kafka.prot; did you mean 'port'"
    assert expected in problems(tmp_path, "", {"EVERVIEW_KAFKA_PROT": "1"})[0]
