"""The `everview` command on a small project: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra import cli
from infra.verbs import status
from schemas import registered
from schemas.ledger import epochs, leases, versions
from schemas.ledger.connect import open_ledger
from schemas.observed import Epoch
from schemas.position import Position, Range

STREAM = """CREATE STREAM clicks (id VARCHAR PRIMARY KEY, page VARCHAR NOT NULL, ms INTEGER)
WITH (topic = 'clicks', format = 'json');
"""
VIEW = (
    "CREATE VIEW pages AS SELECT page, count(*) AS clicks, sum(ms) AS ms FROM clicks GROUP BY page;"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "clicks.sql").write_text(STREAM + VIEW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit_an_epoch(state: Path) -> None:
    with open_ledger(state) as ledger:
        stream = versions.streams(ledger)[0]
        folded = tuple(view.version for view in versions.views(ledger))
        holder = leases.Holder("here", 1, 1.0)
        name = epochs.lease_name(stream.name)
        span = datetime(2026, 1, 2, tzinfo=UTC) - NOW
        lease = leases.take(ledger, name, holder, NOW, span, lambda _: False)
        epochs.commit_epoch(
            ledger,
            epochs.EpochCommit(
                stream=stream.name,
                epoch=1,
                instant=NOW,
                token=lease.token,
                stream_version=stream.version,
                topic_id="t",
                ranges=(Range(0, 0, 12),),
                segments=(),
                folded=folded,
                suspended=(),
                uuid="u",
                observed=Epoch({}, NOW, frozenset({0}), {"type": 3}),
            ),
        )


def test_an_unknown_verb_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["chekc"])

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(
        "verb must be one of init, up, down, status, check, infer, try, schemas, deploy, produce, "
    )
    assert "did you mean 'check'?" in said


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([verb, "--help"])

    assert left.value.code == 0
    assert f"usage: everview {verb}" in capsys.readouterr().out


def test_bad_arguments_are_bad_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["produce", "clicks", "x.csv", "--rate", "0"])

    assert left.value.code == 2
    assert "above 0; got '0'" in capsys.readouterr().err


def test_version_and_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("everview ")
    assert cli.main([]) == 2
    assert "produce" in capsys.readouterr().out


def test_check_shows_every_definition(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert "1 stream, 0 tables, 1 view: all good" in capsys.readouterr().out

    assert cli.main(["check", "--sql"]) == 0
    assert "-- fold core" in capsys.readouterr().out

    assert cli.main(["check", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in told["definitions"]] == ["clicks", "pages"]
    assert not (project / ".everview").exists()


def test_check_lists_every_problem(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "more.sql").write_text(
        "CREATE VIEW a AS SELECT nope FROM clicks GROUP BY 1;\nDROP x;"
    )
    (project / "everview.toml").write_text("[kafka]\nprot = 1\n")

    assert cli.main(["check"]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert "everview.toml:2:1: unknown setting kafka.prot" in said.err
    assert "more.sql:2:1: " in said.err


def test_deploy_registers_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy", "--plan"]) == 0
    assert not (project / ".everview").exists()

    assert cli.main(["deploy"]) == 0
    assert "stream clicks: new\nview pages: new\nregistered in" in capsys.readouterr().out

    assert cli.main(["deploy"]) == 0
    assert capsys.readouterr().out == "nothing differs from what is registered\n"


def test_deploy_changes_what_has_no_history(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["deploy"])
    (project / "clicks.sql").write_text(STREAM + VIEW.replace("sum(ms)", "max(ms)"))
    capsys.readouterr()

    assert cli.main(["deploy"]) == 0

    assert capsys.readouterr().out.startswith("view pages: changed\n")


def test_deploy_builds_aside_what_has_history(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["deploy"])
    commit_an_epoch(project / ".everview")
    more = VIEW.replace("pages", "more")
    (project / "clicks.sql").write_text(STREAM + VIEW.replace("sum(ms)", "max(ms)") + more)
    capsys.readouterr()

    assert cli.main(["deploy"]) == 0

    said = capsys.readouterr().out
    assert (
        "view pages: changed\n    `everview rebuild pages` builds its history of 1 epochs" in said
    )
    assert "until then the version before it answers" in said
    assert "view more: new\n    `everview rebuild more` builds its history" in said
    assert "until then it does not answer" in said
    capsys.readouterr()
    assert cli.main(["deploy"]) == 0
    assert capsys.readouterr().out == "nothing differs from what is registered\n"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("topic = '", "topic = 'other_", "epochs already, of topic 'clicks', and its topic must"),
        ("VARCHAR PRIMARY", "BIGINT PRIMARY", "and its primary key (id), as it is declared,"),
        (" PRIMARY KEY", "", "and its primary key (id), as it is declared,"),
    ],
)
def test_deploy_refuses_another_topic_or_key_where_there_is_history(
    project: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    cli.main(["deploy"])
    commit_an_epoch(project / ".everview")
    (project / "clicks.sql").write_text(STREAM.replace(before, after) + VIEW)
    capsys.readouterr()

    assert cli.main(["deploy"]) == 2

    told = capsys.readouterr().err
    assert "stream clicks: changed: stream 'clicks' has 1 epochs already" in told
    assert said in told
    assert told.endswith("Nothing was registered\n")
    assert cli.main(["deploy", "--plan"]) == 1


def test_deploy_takes_another_declaration_where_there_is_history(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["deploy"])
    commit_an_epoch(project / ".everview")
    other = VIEW.replace("pages", "counts").replace("sum(ms) AS ms", "max(id) AS last")
    (project / "clicks.sql").write_text(STREAM.replace("ms ", "more INTEGER, ms ") + VIEW + other)
    assert cli.main(["deploy"]) == 0
    (project / "clicks.sql").write_text(STREAM.replace("INTEGER", "BIGINT") + VIEW + other)
    capsys.readouterr()

    assert cli.main(["deploy", "--plan"]) == 0

    told = capsys.readouterr().out
    assert "stream clicks: changed\n    it accepts events from epoch 2 on" in told
    assert "`everview rejects clicks --replay` tries rejects again" in told
    assert "view pages: changed\n" in told
    assert "It reads the events of earlier epochs anew, by the new declaration\n" in told
    assert "view counts" not in told
    assert cli.main(["deploy"]) == 0


def test_deploy_is_refused_when_an_epoch_comes_after_its_plan(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.main(["deploy"])
    (project / "clicks.sql").write_text(STREAM + VIEW.replace("sum(ms)", "max(ms)"))
    rows = registered.rows

    def late(*arguments: Any) -> Any:
        commit_an_epoch(project / ".everview")
        return rows(*arguments)

    monkeypatch.setattr(registered, "rows", late)
    capsys.readouterr()

    assert cli.main(["deploy"]) != 0

    said = capsys.readouterr()
    assert "stream 'clicks' must be at epoch 0" in said.err
    assert "run `everview deploy` again" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [
        ("clicks", "Clicks", "stream Clicks: new: it is registered as 'clicks'"),
        ("VIEW pages", "VIEW Pages", "view Pages: new: it is registered as 'pages'"),
    ],
)
def test_deploy_refuses_a_name_in_other_case(
    project: Path, name: str, other: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["deploy"])
    (project / "clicks.sql").write_text(STREAM.replace(name, other, 1) + VIEW.replace(name, other))
    capsys.readouterr()

    assert cli.main(["deploy"]) == 2

    assert said in capsys.readouterr().err


def test_status_reads_the_ledger(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["deploy"])
    commit_an_epoch(project / ".everview")
    capsys.readouterr()

    assert cli.main(["status", "--json"]) == 1

    told = json.loads(capsys.readouterr().out)
    stream = told["streams"]["clicks"]
    assert (stream["epoch"], stream["position"]) == (1, {"0": 12})
    assert (stream["rejects"], stream["unread"]) == ({"type": 3}, None)
    assert stream["low_watermark"] == NOW.isoformat()
    assert (stream["lease"]["host"], stream["lease"]["token"]) == ("here", 1)
    assert told["kafka"]["state"] == told["serving"]["state"] == "stopped"
    assert cli.main(["status"]) == 1
    said = capsys.readouterr().out
    assert "process 1 on here, token 1" in said
    assert "rejects    3 type" in said


def test_status_tells_what_is_unread_while_somebody_asks_kafka() -> None:
    logs = {"ends": {"0": 15, "1": 4}}
    assert status._unread(Position({0: 12}), logs) == {"0": 3, "1": 4}
    assert status._unread(Position({0: 99, 1: 4}), logs) == {"0": 0, "1": 0}
    assert status._unread(Position(), None) is None
    assert status._instant(-(2**62)) is None


@pytest.mark.parametrize("verb", [["sql", "SELECT 1"], ["produce", "clicks", "clicks.sql"]])
def test_what_needs_a_running_stack_says_so(
    project: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (project / "clicks.sql").exists()

    assert cli.main(verb) == 1

    assert "must be running; it is not. Run `everview up`" in capsys.readouterr().err


def test_produce_names_the_streams_there_are(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (project / "clicks.sql").exists()

    assert cli.main(["produce", "visits", "clicks.sql"]) == 2

    assert "stream 'visits' must be one of ['clicks']" in capsys.readouterr().err


def test_a_broker_that_is_not_there_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "everview.toml").write_text('[kafka]\nbootstrap_servers = "no.invalid:9092"\n')

    assert cli.main(["up"]) == 1

    said = capsys.readouterr().err
    assert "Kafka at 'no.invalid:9092' must answer; no.invalid:9092: the name does not" in said


def test_failpoints_outside_of_tests_are_refused(project: Path) -> None:
    environment = {**os.environ, "EVERVIEW_FAILPOINTS": "epoch.after_commit=kill"}
    environment.pop("EVERVIEW_TEST", None)

    done = subprocess.run(
        [sys.executable, "-m", "infra", "check", "--project", str(project)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("EVERVIEW_FAILPOINTS must be")
