"""From a request to queries: the body or the address of `/sql`, field by field.

| field | is | default |
|---|---|---|
| `sql` (in an address `q`) | one statement | |
| `params` | an array for `?`, an object for `$name`; only in a body | none |
| `max_rows` | a whole number from 1, cut to 1,000,000 | 10,000 |
| `timeout_ms` | a whole number from 1, cut to 60,000 | 10,000 |
| `integers` | `number` or `string` | `number` |
| `strict` | whether a degraded answer is refused | false |
| `as_of` | the number of an epoch, or an instant as ISO 8601 | now |
| `format` | one of `formats.NAMES` | the first of `Accept`, else JSON |
"""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request

from serving import formats
from serving.envelope import Code, RequestError
from serving.query import MAX_ROWS, MAX_ROWS_LIMIT, Query

BODY_BYTES = 2**20
BODY_SECONDS = 10.0  # for all of it
TIMEOUT_MS, TIMEOUT_MS_LIMIT = 10_000, 60_000
AS_OF_CHARACTERS = 40

OPTIONS = frozenset({"max_rows", "timeout_ms", "integers", "strict", "as_of", "format"})
PARAMS_DEPTH = 32
FIELDS = frozenset({"sql", "params"}) | OPTIONS
TEXTS = frozenset({"text/plain", "application/sql", ""})


@dataclass(frozen=True)
class Asked:
    """A query, and how long it may take."""

    query: Query
    timeout_ms: int


async def body(request: Request) -> bytes:
    """The body, whole and as it was sent."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RequestError(Code.MEDIA_TYPE, "body must not be compressed")
    found = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                found += part
                if len(found) > BODY_BYTES:
                    message = f"body must have at most {BODY_BYTES} bytes"
                    raise RequestError(Code.TOO_LARGE, message)
    except TimeoutError:
        message = f"body must come within {BODY_SECONDS:g} s; got {len(found)} bytes of it"
        raise RequestError(Code.DEADLINE, message) from None
    return found


def fields(request: Request, content: bytes) -> dict[str, Any]:
    """What a body says, by its type: a JSON object, or a statement alone."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TEXTS and kind != formats.JSON_TYPE:
        message = (
            "body must be a statement with the header Content-Type: text/plain, or JSON with "
            f"Content-Type: application/json; got {kind!r}"
        )
        raise RequestError(Code.MEDIA_TYPE, message)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(Code.BAD_REQUEST, "body must be UTF-8") from error
    if kind in TEXTS:
        return {"sql": text}
    try:
        found = json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise RequestError(Code.BAD_REQUEST, f"body must be JSON; {error}") from error
    if not isinstance(found, dict):
        raise RequestError(Code.BAD_REQUEST, 'body must be a JSON object with "sql"')
    return found


def of_address(request: Request) -> dict[str, Any]:
    """The same fields of an address, where everything is text."""
    given = dict(request.query_params)
    if len(given) < len(request.query_params.multi_items()):
        raise RequestError(Code.BAD_REQUEST, "address must have each field once; got one twice")
    if "q" not in given:
        raise RequestError(Code.BAD_REQUEST, "address must have the statement as ?q=; got none")
    found: dict[str, Any] = {"sql": given.pop("q"), **given}
    if "params" in given or "sql" in given:
        raise RequestError(Code.BAD_REQUEST, "address must not have params or sql; a body can")
    for name in {"max_rows", "timeout_ms"} & given.keys():
        found[name] = _number(name, given[name])
    if "strict" in given:
        found["strict"] = {"true": True, "false": False}.get(given["strict"], given["strict"])
    if _is_number(given.get("as_of", "")):
        found["as_of"] = int(given["as_of"])
    return found


def asked(given: Mapping[str, Any], accept: str) -> Asked:
    """The query that fields mean."""
    unknown = sorted(given.keys() - FIELDS)
    if unknown:
        close = difflib.get_close_matches(unknown[0], FIELDS - given.keys(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        if "sql" not in given:
            hint = "; the statement is the field sql"
        message = (
            f"fields must be some of {', '.join(sorted(FIELDS))}, or queries with an array of "
            f"such; got {', '.join(unknown)} too{hint}"
        )
        raise RequestError(Code.BAD_REQUEST, message)
    sql, params = given.get("sql"), given.get("params")
    if not isinstance(sql, str):
        raise RequestError(Code.BAD_REQUEST, "sql must be a text")
    if params is not None and not isinstance(params, list | dict):
        raise RequestError(Code.BAD_REQUEST, "params must be an array (?) or an object ($name)")
    if _depth(params) > PARAMS_DEPTH:
        message = f"params must be nested at most {PARAMS_DEPTH} deep"
        raise RequestError(Code.BAD_REQUEST, message)
    integers, strict = given.get("integers", "number"), given.get("strict", False)
    if integers not in ("number", "string"):
        raise RequestError(Code.BAD_REQUEST, "integers must be number or string")
    if not isinstance(strict, bool):
        raise RequestError(Code.BAD_REQUEST, f"strict must be true or false; got {strict!r}")
    query = Query(
        sql,
        params,
        _within(given, "max_rows", MAX_ROWS, MAX_ROWS_LIMIT),
        _media_type(given, accept),
        integers,
        strict,
        _as_of(given.get("as_of")),
    )
    return Asked(query, _within(given, "timeout_ms", TIMEOUT_MS, TIMEOUT_MS_LIMIT))


def _depth(value: Any) -> int:
    """How deep a value is nested; with no recursion, as it may be too deep for that."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        inside = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inside for each in values]
    return depth


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return found


def _constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _media_type(given: Mapping[str, Any], accept: str) -> str:
    if "format" in given:
        return formats.named(str(given["format"]))
    found = formats.accepted(accept)
    if found is None:
        raise formats.not_acceptable(accept)
    return found


def _as_of(value: Any) -> int | str | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, str) and len(value) <= AS_OF_CHARACTERS and _is_instant(value):
        return value
    message = (
        "as_of must be the number of an epoch, or an instant such as '2026-01-01T10:00:00Z'; "
        f"got {str(value)[:AS_OF_CHARACTERS]!r}"
    )
    raise RequestError(Code.BAD_REQUEST, message)


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def _within(given: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    """A whole number from 1; more than the limit is cut to it."""
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(Code.BAD_REQUEST, f"{name} must be a whole number from 1; got {value!r}")
    return min(value, limit)


def _number(name: str, text: str) -> int:
    if not _is_number(text):
        raise RequestError(Code.BAD_REQUEST, f"{name} must be a whole number from 1; got {text!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
