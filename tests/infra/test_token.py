"""`everview token`: a token that is printed once, and the hash that stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import cli
from serving.front.tokens import Tokens


def test_a_token_lets_its_name_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "ann", "--project", str(tmp_path)]) == 0
    first = capsys.readouterr()
    told = 'section [serving] of everview.toml has to have the line tokens = "tokens" (uncomment'
    assert told in first.err
    (tmp_path / "everview.toml").write_text('[serving]\ntokens = "who"\n')
    assert cli.main(["token", "bob", "--project", str(tmp_path)]) == 0
    second = capsys.readouterr()

    assert Tokens(tmp_path / "tokens").who(first.out.strip()) == "ann"
    assert Tokens(tmp_path / "who").who(second.out.strip()) == "bob"
    assert "everview.toml" not in second.err
    assert first.out.strip() not in first.err


def test_what_cannot_be_a_name_or_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["token", "a b", "--project", str(tmp_path)]) == 2
    assert "NAME must be of letters" in capsys.readouterr().err
    assert not (tmp_path / "tokens").exists()
    (tmp_path / "tokens").write_text("ann\n")
    (tmp_path / "tokens").chmod(0o600)
    assert cli.main(["token", "ann", "--project", str(tmp_path)]) == 1
    assert "line 1 must be NAME and the SHA-256" in capsys.readouterr().err
    assert (tmp_path / "tokens").read_text() == "ann\n"
