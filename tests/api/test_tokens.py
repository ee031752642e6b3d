"""Who may ask (H1, C3): the file of tokens, and the routes that want one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from serving import run
from serving.front import tokens
from serving.front.tokens import Tokens, TokensInvalid
from tests.api.scripted import Scripted, reply
from tests.api.test_error_shape import error
from tests.api.world import http

CLOSED = ["/sql?q=x", "/views", "/views/x", "/streams", "/events", "/nothing", "//sql"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def front() -> Scripted:
    return Scripted({"x": reply(b"{}")})


def test_a_token_is_made_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    first, second = tokens.make(file, "ann"), tokens.make(file, "ann")
    file.write_text(file.read_text().rstrip("\n"))  # as an editor may leave it
    third = tokens.make(file, "b.o-b@x")

    known = Tokens(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [known.who(each) for each in (first, second, third)] == ["ann", "ann", "b.o-b@x"]
    assert [known.who(each) for each in ("", first.upper(), first[:-1])] == [None, None, None]
    assert first not in file.read_text()
    assert hashlib.sha256(first.encode()).hexdigest() in file.read_text()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (None, 0o600, "must be readable"),
        ("", 0o604, "must be closed to others: chmod 600; its mode is 604"),
        ("", 0o620, "must be closed to others: chmod 600; its mode is 620"),
        ("ann", 0o600, "line 1 must be NAME and the SHA-256 of a token"),
        ("# all\n\nann secret", 0o600, "line 3 must be NAME"),
        (f"a/b {'0' * 64}", 0o600, "line 1 must be NAME"),
        (f"ann {'0' * 64} more", 0o600, "line 1 must be NAME"),
        ("\udcff", 0o600, "must be readable"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path: Path, text: str | None, mode: int, why: str) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
        file.chmod(mode)
    with pytest.raises(TokensInvalid, match=why):
        Tokens(file)


def test_every_route_but_health_wants_a_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = tokens.make(file, "ann")
    scripted = front()
    with http(scripted, Tokens(file)) as client:
        refused = [client.get(path) for path in CLOSED]
        refused += [client.get("/views", headers=bearer(f"{token}x"))]
        refused += [client.get("/views", headers={"Authorization": f"Basic {token}"})]
        refused += [client.get("/views", headers=[*bearer(token).items()] * 2)]
        for each in refused:
            assert error(each)["code"] == "unauthorised"
            assert each.headers["www-authenticate"] == "Bearer"
        assert len({each.content for each in refused}) == 1
        assert scripted.asked == []

        assert client.get("/sql?q=x", headers=bearer(token)).status_code == 200
        assert client.get("/views", headers={"authorization": f"bearer  {token}"}).json() == {
            "views": []
        }
        assert client.get("/nothing", headers=bearer(token)).status_code == 404
        assert [user for _, user, _ in scripted.asked] == ["ann"]

        assert client.get("/healthz").json() == {"healthy": True}
        assert client.get("/readyz").json() == {"ready": True}
        scripted.trouble = ["stream 'secret' is broken"]
        assert error(client.get("/readyz"))["message"] == "not ready"
        told = client.get("/readyz", headers=bearer(token))
        assert error(told)["message"] == "stream 'secret' is broken"


def test_without_tokens_a_user_is_the_address() -> None:
    scripted = front()
    with http(scripted) as client:
        client.get("/sql?q=x", headers={"X-Forwarded-For": "10.1.1.1"})
        assert [user for _, user, _ in scripted.asked] == ["127.0.0.1"]


def test_a_token_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = tokens.make(file, "ann")
    for known in (Tokens(file), None):
        with http(front(), known) as client:
            for name in ("token", "access_token", "Token", "access%5Ftoken"):
                answer = client.get(f"/sql?q=x&{name}={token}", headers=bearer(token))
                assert error(answer)["code"] == "bad_request"
                assert "Authorization: Bearer" in answer.text
                assert token not in answer.text


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    ann = tokens.make(file, "ann")

    def status(client: httpx.Client, token: str) -> int:
        return client.get("/views", headers=bearer(token)).status_code

    with http(front(), Tokens(file)) as client:
        bob = tokens.make(file, "bob")
        assert (status(client, ann), status(client, bob)) == (200, 200)
        aside = tmp_path / "aside"
        aside.write_text(file.read_text().splitlines()[1] + "\n")
        aside.chmod(0o600)
        aside.replace(file)
        assert (status(client, ann), status(client, bob)) == (401, 200)
        for spoil in (lambda: file.chmod(0o644), lambda: file.write_text("?"), file.unlink):
            spoil()
            answer = client.get("/views", headers=bearer(bob))
            assert error(answer)["code"] == "not_ready"
            assert str(tmp_path) not in answer.text
            assert client.get("/healthz").status_code == 200
            told = error(client.get("/readyz"))
            assert (told["code"], told["message"]) == ("not_ready", tokens.UNREADABLE)
        again = tokens.make(file, "bob")
        assert (status(client, again), status(client, bob)) == (200, 401)
        assert client.get("/readyz").json() == {"ready": True}


def test_a_server_does_not_start_without_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--state", str(tmp_path), "--host", "0.0.0.0", "--tokens", str(tmp_path / "tokens")]
    with pytest.raises(SystemExit) as ended:
        run.main(wanted)
    assert ended.value.code == 2
    assert "must be readable" in capsys.readouterr().err
