"""One answer shape and one error shape, whatever was asked (tests/api/test_error_shape.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum

import duckdb

from schemas.errors import EverviewError

MESSAGE_BYTES = 1000
# what DuckDB advises to SET, which no client may: `... Use "SET a TO b" to ...`, `* SET a=b to ...`
_ADVICE = re.compile(
    r"""(?:\s+Use|, or|\n(?:\*|Or set)) ["']?SET \w+(?: ?=| TO )[^\n.]*\.?""", re.IGNORECASE
)
# what it says of params, and how that is said here
_PARAMS = (
    (re.compile(r"Values were not provided for the .*parameters: (.*)"), r"got none for \1"),
    (re.compile(r"identifiers of the excess parameters: (.*)"), r"the statement has no \1"),
    (re.compile(r"mismatch for prepared statement\. Expected (\d+), got (\d+)"), r"got \2 for \1"),
)
_MEMORY = re.compile(r"/([\d.]+ \w+) used\)")


class Code(StrEnum):
    """What can be wrong with a request; clients see these words."""

    BAD_REQUEST = "bad_request"  # fields, parameters, encoding
    BAD_SQL = "bad_sql"  # DuckDB refuses the statement, or it fails while it runs
    UNAUTHORISED = "unauthorised"  # no token, or one that nobody has
    REFUSED = "refused"  # understood, and not allowed
    FOREIGN = "foreign"  # from another page, or under a name that is not this server's
    NOT_FOUND = "not_found"
    UNKNOWN_VIEW = "unknown_view"
    TOO_FAR_BACK = "too_far_back"  # an epoch of which detail is removed
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"  # in a format that there is none of
    DEADLINE = "deadline"
    TOO_LARGE = "too_large"
    MEDIA_TYPE = "media_type"
    QUEUE_FULL = "queue_full"
    INTERNAL = "internal"
    NOT_READY = "not_ready"
    DEGRADED = "degraded"  # there would be an answer, but strict does not want it


STATUSES: Mapping[Code, int] = {
    Code.BAD_REQUEST: 400,
    Code.BAD_SQL: 400,
    Code.UNAUTHORISED: 401,
    Code.REFUSED: 403,
    Code.FOREIGN: 403,
    Code.NOT_FOUND: 404,
    Code.UNKNOWN_VIEW: 404,
    Code.TOO_FAR_BACK: 410,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.DEADLINE: 408,
    Code.TOO_LARGE: 413,
    Code.MEDIA_TYPE: 415,
    Code.QUEUE_FULL: 429,
    Code.INTERNAL: 500,
    Code.NOT_READY: 503,
    Code.DEGRADED: 503,
}


class RequestError(EverviewError):
    """A request that gets no answer: why, and the place in its SQL if it has one."""

    def __init__(self, code: Code, message: str, place: tuple[int, int] | None = None) -> None:
        self.code, self.status = code, STATUSES[code]
        self.message = shortened(message)
        self.line = place[0] if place else None  # both from 1, in characters
        self.column = place[1] if place else None
        super().__init__(message)

    def body(self) -> bytes:
        """`{"error": {"code", "message", "line", "column"}}`; line and column may be null."""
        error = {
            "code": self.code,
            "message": self.message,
            "line": self.line,
            "column": self.column,
        }
        return json.dumps({"error": error}).encode()


def shortened(message: str) -> str:
    """At most `MESSAGE_BYTES` as UTF-8, all of them printable or line breaks."""
    clean = "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}"
        for c in message.replace("\t", "  ")
    )
    if len(clean.encode()) <= MESSAGE_BYTES:
        return clean
    return clean.encode()[: MESSAGE_BYTES - 4].decode(errors="ignore") + " ..."


def place(sql: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a byte offset in the UTF-8 form of a statement."""
    before = sql.encode()[:offset].decode(errors="ignore")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _too_much(message: str) -> str:
    limit = _MEMORY.search(message)
    which = f" than the {limit[1]} that a worker has, its tables included" if limit else ""
    return f"statement needs more memory{which or ' than there is'}; ask for less of it"


def _of_params(message: str) -> str | None:
    """What is wrong with params, if that is it."""
    if "integer too large for 128-bit" in message:
        return "params must be values that SQL has; an integer has at most 128 bits"
    for pattern, words in _PARAMS:
        if found := pattern.search(message):
            got = found.expand(words)
            return f"params must be a value for each ? or $name of the statement; {got}"
    return None


def from_engine(error: Exception, sql: str, said: Callable[[str], str] = str) -> RequestError:
    """DuckDB's error as ours, its message as `said`; of one that came through Arrow only the text
    is left. Under `errors_as_json` places and kinds are facts, not text."""
    _, brace, rest = str(error).partition("{")
    try:
        facts = json.loads(brace + rest)
    except ValueError:
        facts = {"exception_message": str(error)}
    message = said(str(facts.get("exception_message", error)))
    kind = str(facts.get("exception_type", "")).lower()
    if isinstance(error, duckdb.InterruptException) or kind == "interrupt":
        return RequestError(Code.DEADLINE, "statement must end before its deadline; it was stopped")
    if isinstance(error, duckdb.OutOfMemoryException) or kind == "out of memory":
        return RequestError(Code.TOO_LARGE, _too_much(message))
    message = _of_params(message) or _ADVICE.sub("", message)
    position = facts.get("position")
    return RequestError(
        Code.BAD_SQL, message, None if position is None else place(sql, int(position))
    )
