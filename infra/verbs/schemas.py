"""What producers must send and what clients get, as JSON Schema or Arrow.

NAME a stream: what a record must be. NAME a view: what a row of its answer is, as `everview sql`
and POST /sql send it. Read from the project's definitions; nothing has to run.
"""

from __future__ import annotations

import argparse
import difflib
import json
from pathlib import Path

import pyarrow as pa

from infra import json_schema, trial
from infra.trial import Trial
from infra.verbs.try_ import MEMORY
from schemas import project
from schemas.compile import CompiledView, sql
from schemas.engine import connect
from schemas.errors import BadUse
from schemas.language.stream import Stream
from schemas.project import Project
from serving import formats

FORMATS = ("json-schema", "arrow")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--format", choices=FORMATS, default="json-schema")
    help_ = "write it there: JSON text, or the schema message of Arrow IPC"
    parser.add_argument("--output", type=Path, metavar="FILE", help=help_)


def run(found: argparse.Namespace) -> int:
    named = _named(project.load(found.project), found.name)
    if found.format == "arrow":
        schema = of_view(named) if isinstance(named, CompiledView) else of_stream(named)
        text, data = schema.to_string(show_schema_metadata=False), schema.serialize().to_pybytes()
    else:
        told = (
            json_schema.of_row(named.name, of_view(named))
            if isinstance(named, CompiledView)
            else json_schema.of_stream(named)
        )
        text = json.dumps(told, indent=1, ensure_ascii=False)
        data = f"{text}\n".encode()
    if found.output is None:
        print(text)
        return 0
    try:
        found.output.write_bytes(data)
    except OSError as error:
        message = f"file {str(found.output)!r} must be writable; {error.strerror}"
        raise BadUse(message) from error
    return 0


def _named(loaded: Project, name: str) -> Stream | CompiledView:
    streams = loaded.definitions.streams
    known: dict[str, Stream | CompiledView] = {**streams}
    known |= {view.name.lower(): view for view in loaded.views()}
    if name.lower() in known:
        return known[name.lower()]
    close = difflib.get_close_matches(name.lower(), known, 1)
    hint = f"; did you mean {known[close[0]].name!r}?" if close else ""
    there = ", ".join(each.name for each in known.values()) or "none"
    message = f"NAME must be a stream or a view of the project ({there}); got {name!r}{hint}"
    raise BadUse(message)


def of_stream(stream: Stream) -> pa.Schema:
    """The columns that an event carries itself."""
    columns = [each for each in stream.columns.columns if each.generated is None]
    nulls = ", ".join(f"CAST(NULL AS {each.type}) AS {sql.name(each.name)}" for each in columns)
    schema = connect().arrow(f"SELECT {nulls}").schema
    needed = {each.name for each in columns if each.not_null} | set(stream.columns.key)
    return pa.schema([field.with_nullable(field.name not in needed) for field in schema])


def of_view(view: CompiledView) -> pa.Schema:
    """As serving sends the rows of the view."""
    query = f'FROM "{view.name}"'
    body = trial.answer(Trial(view), query, formats.ARROW_TYPE, 1, MEMORY)
    with pa.ipc.open_stream(body) as reader:
        return reader.schema
