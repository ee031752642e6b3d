"""What a machine lacks is said once, with the way out; other jars than the locked ones never come
in."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.message import lacks_message
from infra import jars
from infra.java import java_lack
from schemas.errors import JarsNotFetched, JarsNotReady

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of b"abc"


def fake_java(
    home: Path, monkeypatch: pytest.MonkeyPatch, version: str = "17.0.2", ivy: str = "exit 1"
) -> None:
    """A `java` in JAVA_HOME that tells a version, and runs a line of shell when called as Ivy."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\ncase "$*" in -version) echo \'openjdk version "{version}"\' >&2; exit 0;; '
        f"esac\n{ivy}\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))


def test_nothing_is_said_where_nothing_is_lacking() -> None:
    assert lacks_message(None, None) is None


def test_one_message_for_all_that_is_lacking_with_a_command_per_system() -> None:
    message = lacks_message("Java is not there", "venv is not there")
    assert message is not None
    assert message.count("Java is not there") == message.count("venv is not there") == 1
    (debian,) = (line for line in message.splitlines() if "Debian" in line)
    (fedora,) = (line for line in message.splitlines() if "Fedora" in line)
    (macos,) = (line for line in message.splitlines() if "macOS" in line)
    assert "apt-get install openjdk" in debian
    assert "-venv" in debian
    assert "dnf install java" in fedora
    assert "brew install openjdk" in macos


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "25-ea"])
def test_java_17_and_newer_are_good(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path, monkeypatch, version)
    assert java_lack() is None


@pytest.mark.parametrize(("version", "told"), [("1.8.0_392", "Java 8"), ("11.0.2", "Java 11")])
def test_an_older_java_is_named(
    version: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path, monkeypatch, version)
    lack = java_lack()
    assert lack is not None
    assert lack.endswith(told)


def test_a_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "holds no bin/java" in (java_lack() or "")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no `java` on PATH" in (java_lack() or "")


def test_a_failing_ivy_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERVIEW_CACHE", str(tmp_path / "cache"))
    fake_java(tmp_path / "java", monkeypatch, ivy="echo 'unresolved: no route to host'; exit 1")
    with pytest.raises(JarsNotFetched, match="no route to host"):
        jars.ensure(lambda _: None)


def test_jars_other_than_the_locked_ones_never_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERVIEW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        jars, "_lock_text", lambda: f"{ABC}  broker/a.jar\n{ABC}  connector/a.jar\n"
    )
    # Ivy's last argument is the pattern to retrieve by
    into = 'for last; do :; done; folder=$(dirname "$last"); mkdir -p "$folder"; '
    fake_java(tmp_path / "bad", monkeypatch, ivy=into + 'printf abd > "$folder/a.jar"')
    with pytest.raises(JarsNotFetched, match=r"broker/a\.jar must have sha256"):
        jars.ensure(lambda _: None)
    assert list((tmp_path / "cache" / "jars").iterdir()) == []
    with pytest.raises(JarsNotReady):
        jars.connector_jars()

    fake_java(tmp_path / "good", monkeypatch, ivy=into + 'printf abc > "$folder/a.jar"')
    folder = jars.ensure(lambda _: None)
    assert jars.broker_classpath() == folder / "broker"
    assert jars.connector_jars() == [folder / "connector" / "a.jar"]

    (folder / "connector" / "a.jar").write_bytes(b"damaged")
    jars.ensure(lambda _: None)
    assert jars.connector_jars()[0].read_bytes() == b"abc"
