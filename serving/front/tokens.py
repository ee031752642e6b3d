"""The file that says who may ask: a line `NAME SHA256-OF-TOKEN` per token.

A name may have several, so that a token can be replaced while the old one still works. Empty lines
and what follows `#` do not count. Tokens are random (`everview token NAME` makes them), so their
plain hash tells nothing. The file is read again when it changes; while it cannot be read, or says
what it must not, nobody gets in.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import EverviewError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP
TOKEN_BYTES = 32
UNREADABLE = "tokens cannot be read, so nobody is let in; the server's log says why"

log = logging.getLogger("serving")


class TokensInvalid(EverviewError):
    """The file of tokens cannot be used."""

    def __init__(self, file: Path, why: str) -> None:
        self.file, self.why = file, why
        super().__init__(f"file of tokens {file} {why}")


@dataclass(frozen=True)
class _Entry:
    name: str
    digest: bytes


class Tokens:
    """Who has which token, as the file says now."""

    def __init__(self, file: Path) -> None:
        """Raises TokensInvalid, so that a server does not start without."""
        self._file = file
        self._seen = _signature(file)
        self._entries: list[_Entry] | None = read(file)

    def usable(self) -> bool:
        """Whether the file says who may ask; it is read again if it changed."""
        seen = _signature(self._file)
        if seen != self._seen:
            self._seen, self._entries = seen, self._again()
        return self._entries is not None

    def who(self, token: str) -> str | None:
        """Whose token it is; takes as long for anybody's as for nobody's."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for entry in self._entries or []:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.name
        return found

    def _again(self) -> list[_Entry] | None:
        try:
            entries = read(self._file)
        except TokensInvalid as error:
            log.error("nobody is let in: %s", error)
            return None
        log.info("the file of tokens was read again: %d tokens", len(entries))
        return entries


def read(file: Path) -> list[_Entry]:
    """What a file says. Raises TokensInvalid."""
    try:
        with file.open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        raise TokensInvalid(file, f"must be readable; {error}") from error
    if mode & _OTHERS:
        why = "must be closed to others: chmod 600; its mode is"
        raise TokensInvalid(file, f"{why} {stat.S_IMODE(mode):o}")
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]) or not _HASH.fullmatch(words[1]):
            raise TokensInvalid(file, f"line {number} must be NAME and the SHA-256 of a token")
        entries.append(_Entry(words[0], bytes.fromhex(words[1])))
    return entries


def make(file: Path, name: str) -> str:
    """A new token of that name; its hash is in the file from now on, it itself nowhere. Raises
    TokensInvalid."""
    if not NAME.fullmatch(name):
        raise TokensInvalid(file, f"has names of letters, digits and _.@-; got {name!r}")
    if file.exists():
        read(file)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()}\n"
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(opened).st_size
        if size and os.pread(opened, 1, size - 1) != b"\n":
            line = f"\n{line}"
        os.write(opened, line.encode())
        os.fsync(opened)
    finally:
        os.close(opened)
    return token


def _signature(file: Path) -> tuple[int, ...] | None:
    """Differs when the file does; None while there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
