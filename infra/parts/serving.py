"""Serving: the query front of a state and its workers, `python -m serving.run`."""

from __future__ import annotations

import http.client
import json
import sys
from datetime import datetime
from pathlib import Path

from infra import asking
from infra.settings import ServingSettings
from infra.supervisor import Health, Part

ANSWER_WITHIN = 3.0


def part(state: Path, chosen: ServingSettings, port: int, tokens: Path | None) -> Part:
    """The front at a port of this machine; `tokens` says who may ask, None lets anybody."""

    def probe(pid: int, _now: datetime) -> Health:
        return health(state / "run" / "serving.json", pid, chosen.near, port)

    command = [sys.executable, "-P", "-m", "serving.run", "--state", str(state)]
    command += ["--host", chosen.host, "--port", str(port)]
    command += ["--disk-floor", str(chosen.disk_floor)]
    if chosen.freshness_limit is not None:
        command += ["--freshness-limit", f"{chosen.freshness_limit.total_seconds():g}"]
    if tokens is not None:
        command += ["--tokens", str(tokens)]
    return Part(
        name="serving",
        command=tuple(command),
        environment={"PYTHONUNBUFFERED": "1"},
        probe=probe,
        grace=4.0,
    )


def health(file: Path, pid: int, host: str, port: int) -> Health:
    """Whether the front with that pid turns (it answers), and is ready (it says so)."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        told = {}
    if told.get("pid") != pid:
        return Health(alive=False, ready=False, note="is starting")
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN)
    try:
        connection.request("GET", "/readyz", headers=asking.authorisation())
        answer = connection.getresponse()
        body = answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return Health(
            alive=False, ready=False, note=f"no answer from http://{host}:{port}: {error}"
        )
    finally:
        connection.close()
    if answer.status == 200:
        return Health(alive=True, ready=True)
    return Health(alive=True, ready=False, note=_reason(body))


def _reason(body: str) -> str:
    try:
        told = json.loads(body)
        return str(told["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return body.strip()[:200]
