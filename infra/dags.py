"""What Airflow has to know of a state: `<state>/dags.json`, which the DAG file reads.

Airflow parses the DAG file again and again, in processes that are not ours. It opens no ledger and
imports none of our packages: everything that it needs stands in this one file, written by `deploy`
and `up`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra import batching, files
from infra.settings import BatchSettings, Settings
from schemas import schedule
from schemas.errors import DefinitionError
from schemas.language import parser
from schemas.language.statement import Statement
from schemas.language.view import REBUILD
from schemas.ledger import versions
from schemas.ledger.connect import Ledger, open_ledger
from schemas.ledger.versions import StreamRow, ViewRow
from schemas.project import Project

FILE = "dags.json"
FORMAT = 1
CONNECTION = "spark_default"

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "dags"
"""The folder of the DAG file: of the clone, or of what is installed."""

APPLICATION = HERE / "spark" / "main.py"
"""What spark-submit is given."""


def check(chosen: Settings, loaded: Project) -> None:
    """Raises DefinitionError where [rebuild] names a view that the project does not have, or
    [retention] a stream, a view, or a view that has no time to be kept by."""
    problems = chosen.rebuild.unknown(view.name for view in loaded.definitions.views.values())
    streams = [each.name for each in loaded.streams()]
    problems += chosen.retention.wrong(streams, {v.name: v.time_keys for v in loaded.views()})
    if problems:
        raise DefinitionError(problems)


def write(state: Path, folder: Path, chosen: Settings, loaded: Project | None) -> Path:
    """Writes `dags.json` of a state that is registered. `loaded` is the project in `folder`, None
    where it cannot be read: then what is registered says when a view is rebuilt."""
    with open_ledger(state) as ledger:
        views = list(_views(ledger, chosen, loaded))
    told = {
        "format": FORMAT,
        "state": str(state),
        "project": str(folder),
        "python": sys.executable,
        "application": str(APPLICATION),
        "flags": batching.flags(chosen),
        "driver_memory": chosen.batch.driver_memory,
        "py_files": _py_files(folder, chosen.batch),
        "connection": CONNECTION,
        "pool": chosen.batch.pool,
        "views": views,
    }
    file = state / FILE
    files.replace(file, json.dumps(told, indent=1) + "\n")
    return file


def _views(ledger: Ledger, chosen: Settings, loaded: Project | None) -> Iterator[dict[str, Any]]:
    streams = {row.name: row for row in versions.streams(ledger)}
    declared = {} if loaded is None else loaded.definitions.views
    written = {} if loaded is None else {view.name: view.version for view in loaded.views()}
    for row in versions.views(ledger):
        wanted = row if row.wanted is None else versions.version(ledger, row.name, row.wanted)
        view = declared.get(row.name.lower())
        statement = _registered(wanted) if view is None else view.statement
        same = written.get(row.name) == wanted.version
        yield {
            "name": row.name,
            "stream": wanted.stream,
            "schedule": _schedule(chosen, row.name, statement),
            "sql": statement.text if same else wanted.definition,
            "version": wanted.version,
            "about": _about(streams[wanted.stream]),
        }


def _registered(row: ViewRow) -> Statement:
    (statement,), _ = parser.parse("ledger", row.definition)
    return statement


def _schedule(chosen: Settings, view: str, statement: Statement) -> str | None:
    """When a view is rebuilt: the settings' word, else the definition's; None: only by hand."""
    declared = str(statement.option(REBUILD) or schedule.NEVER)
    text = chosen.rebuild.of(view) or declared
    return None if text == schedule.NEVER or not schedule.fits(text) else text


def _about(stream: StreamRow) -> str:
    return f"stream {stream.name}, topic {stream.topic}"


def _py_files(folder: Path, chosen: BatchSettings) -> str | None:
    """The archive as spark-submit takes it, wherever that is started."""
    archive = chosen.py_files
    if not archive:
        return None
    return archive if "://" in archive else str(folder / archive)
