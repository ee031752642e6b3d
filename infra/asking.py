"""Asks the running stack, by HTTP."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import stack
from schemas.errors import EverviewError, StackNotRunning

MEDIA = {"json": "application/json", "ndjson": "application/x-ndjson", "csv": "text/csv"}
MEDIA |= {"arrow": "application/vnd.apache.arrow.stream"}
TOKEN = "EVERVIEW_TOKEN"
"""The variable with the token of whoever asks, where the stack wants one."""
WITHIN = 70.0
"""Seconds for an answer: longer than any deadline of a query."""


class QueryRefused(EverviewError):
    """An error answer, with its place in the SQL where it has one (both from 1)."""

    def __init__(self, code: str, message: str, line: int | None, column: int | None) -> None:
        self.code, self.message, self.line, self.column = code, message, line, column
        super().__init__(f"{message} ({code})")

    def drawn(self, sql: str) -> str:
        """The message, with a caret under the place."""
        lines = sql.splitlines()
        if self.line is None or self.column is None or not 1 <= self.line <= len(lines):
            return str(self)
        shown = lines[self.line - 1].replace("\t", " ")
        return f"{shown}\n{' ' * (self.column - 1)}^\n{self}"


@dataclass(frozen=True)
class Whole:
    """Rows in their own types, and what they cover. There may be more where they are as many as
    were asked for."""

    body: bytes  # an Arrow IPC stream
    coverage: list[dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """A body as it came, and what its headers say."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answers:
    """Where a stack answers."""

    http: str
    state: Path

    def sql(self, query: str, form: str = "json", **fields: Any) -> bytes:
        """The body of an answer. Raises QueryRefused, StackNotRunning."""
        return self.answer(query, form, **fields).body

    def whole(self, query: str, **fields: Any) -> Whole:
        """An answer in its own types, with what its headers say. Raises as `sql` does."""
        answer = self.answer(query, "arrow", **fields)
        return Whole(answer.body, json.loads(answer.headers["Everview-Coverage"]))

    def answer(self, query: str, form: str, **fields: Any) -> Answer:
        """An answer with its headers. Raises as `sql` does."""
        request = urllib.request.Request(
            f"{self.http}/sql",
            data=json.dumps({"sql": query, **fields}).encode(),
            headers={
                "Content-Type": "application/json",
                "Accept": MEDIA[form],
                **authorisation(),
            },
        )
        try:
            with _opener.open(request, timeout=WITHIN) as answer:
                return Answer(bytes(answer.read()), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except urllib.error.URLError as error:
            raise StackNotRunning(str(self.state), "serving") from error

    def table(self, query: str, **fields: Any) -> dict[str, Any]:
        """An answer as JSON: columns, rows, coverage."""
        found: dict[str, Any] = json.loads(self.sql(query, **fields))
        return found

    def get(self, path: str) -> dict[str, Any]:
        """Any other page."""
        try:
            request = urllib.request.Request(f"{self.http}{path}", headers=authorisation())
            with _opener.open(request, timeout=WITHIN) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except urllib.error.URLError as error:
            raise StackNotRunning(str(self.state), "serving") from error


def authorisation() -> dict[str, str]:
    """The header that says who asks, if the environment has a token."""
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def of(state: Path) -> Answers:
    """Those of the stack that runs on a state. Raises StackNotRunning."""
    running = stack.read(state)
    if running is None or not running.running:
        raise StackNotRunning(str(state), "serving")
    return Answers(running.http, state)


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine


def _refused(error: urllib.error.HTTPError) -> QueryRefused:
    body = error.read(64 * 1024)
    if error.code == 401:
        message = f"this stack wants a token: set {TOKEN} to one; `everview token NAME` makes one"
        if TOKEN in os.environ:
            message = (
                f"this stack does not know the token in {TOKEN}; `everview token NAME` makes one"
            )
        return QueryRefused("unauthorised", message, None, None)
    try:
        told = json.loads(body)["error"]
        return QueryRefused(told["code"], told["message"], told.get("line"), told.get("column"))
    except (ValueError, KeyError, TypeError):
        return QueryRefused(str(error.code), body.decode("utf-8", "replace")[:500], None, None)
