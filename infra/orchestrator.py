"""Asks Airflow, by its REST API: starts the rebuild of a view, and tells how it goes."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import stack
from infra.parts import airflow
from schemas.errors import EverviewError

WITHIN = 60.0
"""Seconds for an answer; SQLite below it makes some of them slow on a busy machine."""

TRIES = 3
"""How often a question is put that nobody answered; nothing that changes something is."""

KNOWN_WITHIN = 60.0
"""Seconds that a DAG may take to be known, after its file or Airflow is new."""

LOOK_EVERY = 0.5
LOG_BYTES = 4 * 1024 * 1024


class AirflowRefused(EverviewError):
    """Airflow said no, or said nothing; `status` is that of HTTP, None without an answer."""

    def __init__(self, url: str, what: str, status: int | None, why: str) -> None:
        self.url, self.what, self.status, self.why = url, what, status, why
        said = "gave no answer" if status is None else f"refused with status {status}"
        super().__init__(f"Airflow at {url} {said} to {what}: {why}")


@dataclass(frozen=True)
class Run:
    """A run of a view's DAG; `state` is queued, running, success or failed."""

    id: str
    state: str
    started: str | None  # as Airflow writes an instant
    ended: str | None

    @property
    def over(self) -> bool:
        return self.state in ("success", "failed")


class Orchestrator:
    """An Airflow that runs the views' DAGs. Its methods raise AirflowRefused."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self.user = url.rstrip("/"), user
        self._password = password
        self._token: str | None = None

    def trigger(self, view: str, *, full: bool = False, until: int | None = None) -> str:
        """Starts a rebuild of a view; gives the id of the run.

        A DAG that is not known yet, as its file is new, is waited for.
        """
        self._until_known(view)
        body = {"logical_date": None, "conf": {"full": full, "until": until}}
        told = self._call("POST", f"{_runs(view)}", body)
        return str(told["dag_run_id"])

    def run(self, view: str, run_id: str) -> Run:
        told = self._call("GET", f"{_runs(view)}/{_quoted(run_id)}")
        return Run(told["dag_run_id"], told["state"], told["start_date"], told["end_date"])

    def tasks(self, view: str, run_id: str) -> dict[str, str]:
        """The state of each task of a run: success, failed, skipped, upstream_failed, running,
        up_for_retry, queued, scheduled; none where it waits for another."""
        told = self._call("GET", f"{_runs(view)}/{_quoted(run_id)}/taskInstances")
        return {one["task_id"]: one["state"] or "none" for one in told["task_instances"]}

    def log(self, view: str, run_id: str, task: str) -> str:
        """What the last try of a task wrote, a line each."""
        one = f"{_runs(view)}/{_quoted(run_id)}/taskInstances/{_quoted(task)}"
        tried = max(1, int(self._call("GET", one)["try_number"]))
        told = self._call("GET", f"{one}/logs/{tried}?full_content=true")
        lines = told["content"]
        return "\n".join(line if isinstance(line, str) else str(line["event"]) for line in lines)

    def _until_known(self, view: str) -> None:
        end = time.monotonic() + KNOWN_WITHIN
        while True:
            try:
                self._call("GET", f"/api/v2/dags/{dag_id(view)}")
            except AirflowRefused as error:
                if error.status != 404 or time.monotonic() >= end:
                    raise
            else:
                return
            time.sleep(LOOK_EVERY)  # its DAG processor reads the folder every few seconds

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One call; with a new token where the old one has ended."""
        if self._token is not None:
            try:
                return self._send(method, path, body)
            except AirflowRefused as error:
                if error.status != 401:
                    raise
        self._token = None
        login = {"username": self.user, "password": self._password}
        self._token = str(self._send("POST", "/auth/token", login)["access_token"])
        return self._send(method, path, body)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        left = TRIES if method == "GET" else 1
        while True:
            left -= 1
            try:
                return self._sent(method, path, body)
            except AirflowRefused as error:
                if left == 0 or (error.status is not None and error.status < 500):
                    raise
            time.sleep(LOOK_EVERY)

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        what = f"{method} {path}"
        try:
            with _opener.open(request, timeout=WITHIN) as answer:
                return json.loads(answer.read(LOG_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                why = _reason(error.read(64 * 1024))
            raise AirflowRefused(self.url, what, error.code, why) from None
        except (OSError, ValueError) as error:
            raise AirflowRefused(self.url, what, None, str(error)) from error


def of(state: Path) -> Orchestrator | None:
    """The Airflow of the stack that runs on a state; None where there is none, or none ready."""
    running = stack.read(state)
    if running is None or not running.running or running.airflow is None:
        return None
    part = running.parts.get(stack.AIRFLOW)
    if part is None or part.state != "ready":
        return None
    password = airflow.password(state)
    return None if password is None else Orchestrator(running.airflow, airflow.USER, password)


def dag_id(view: str) -> str:
    """The DAG that rebuilds a view."""
    return f"rebuild_{view}"


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine


def _runs(view: str) -> str:
    return f"/api/v2/dags/{dag_id(view)}/dagRuns"


def _quoted(text: str) -> str:
    """As part of a path; ids of runs hold colons and plus signs."""
    return urllib.parse.quote(text, safe="")


def _reason(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    try:
        told = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return text[:500] or "no reason given"
    return told if isinstance(told, str) else json.dumps(told)
