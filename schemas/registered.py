"""What the ledger has registered, compiled: the only definitions that a running layer goes by."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from schemas import definitions, version
from schemas.compile import (
    CompiledRaw,
    CompiledStream,
    CompiledView,
    compile_raw,
    compile_reference,
    compile_stream,
    reading,
)
from schemas.definitions import Definitions
from schemas.errors import DefinitionError, VersionOfAnotherRelease
from schemas.language import parser
from schemas.language.stream import Stream
from schemas.ledger import versions
from schemas.ledger.connect import Ledger
from schemas.ledger.versions import ReferenceRow, StreamRow, ViewRow
from schemas.project import Project, compiled_view
from schemas.storage import DataRoot
from schemas.stored_file import StoredFile


@dataclass(frozen=True)
class StreamPlan:
    """A registered stream with the versions of views that its epochs carry: those to fold, and the
    names of suspended ones."""

    stream: CompiledStream
    topic: str
    partitions: int
    dedup_within: timedelta
    views: tuple[CompiledView, ...]
    suspended: tuple[str, ...]
    # versions that this release cannot fold as they were registered, and why
    lost: tuple[tuple[str, str], ...] = ()


def rows(project: Project, root: DataRoot) -> tuple[list[StreamRow], list[ViewRow]]:
    """What to register for a project; copies the files of references into the state."""
    streams = [
        StreamRow(stream.name, stream.topic, version.of_stream(stream), stream.statement.text)
        for stream in project.definitions.streams.values()
    ]
    views = []
    for compiled in project.views():
        view = project.definitions.views[compiled.name.lower()]
        pinned = tuple(
            ReferenceRow(
                reference.name,
                reference.file.sha256,
                project.definitions.references[reference.name.lower()].statement.text,
                reference.file.bytes,
            )
            for reference in compiled.references
        )
        text = view.statement.text
        views.append(ViewRow(compiled.name, compiled.version, compiled.stream, text, pinned))
    for content in project.contents.values():
        root.put("references", content.file.sha256, content.data)
    return streams, views


def plan(ledger: Ledger, stream: str) -> StreamPlan:
    """One registered stream; trouble with another one is none of it.

    Raises KeyError for a stream that is not registered, and VersionOfAnotherRelease where its
    declaration no longer means what it meant when it was registered. A view of which that is true
    is `lost`.
    """
    rows = {row.name: row for row in versions.streams(ledger)}
    return _plan(rows[stream], versions.folding(ledger, stream))


def _plan(row: StreamRow, views: list[ViewRow]) -> StreamPlan:
    stream = _declared(row.definition)
    _same("stream", row.name, row.version, version.of_stream(stream))
    folded, lost = [], []
    for view in views:
        if view.suspended_epoch is None:
            try:
                found = _view(row, view)
                # what is read as it is typed need not carry how it would be read anew
                folded.append(replace(found, reread="") if row.version in found.typed else found)
            except (VersionOfAnotherRelease, DefinitionError) as error:
                lost.append((view.version, str(error)))
    return StreamPlan(
        stream=compile_stream(stream, row.version),
        topic=stream.topic,
        partitions=stream.partitions,
        dedup_within=stream.dedup_within,
        views=tuple(folded),
        suspended=tuple(view.name for view in views if view.suspended_epoch is not None),
        lost=tuple(lost),
    )


def declaration(row: StreamRow) -> Stream:
    """A stream as it was written when it was declared last."""
    return _declared(row.definition)


def stream(row: StreamRow, of: str | None = None) -> CompiledStream:
    """A stream as it is declared now, or as a version of it was; raises what `plan` does."""
    wanted = row.version if of is None else of
    declared = _declared(_definition(row, wanted))
    _same("stream", row.name, wanted, version.of_stream(declared))
    return compile_stream(declared, wanted)


def raw(row: StreamRow) -> CompiledRaw:
    """A stream as a relation, by the declaration that accepts its events now; raises what `plan`
    does."""
    declared = _declared(row.definition)
    _same("stream", row.name, row.version, version.of_stream(declared))
    names = [each.name for each in declared.columns.columns]
    return compile_raw(declared, row.version, tuple(_typed(row, row.definition, names)))


def compiled(stream: StreamRow, row: ViewRow) -> CompiledView:
    """A registered view, suspended or not."""
    return _view(stream, row)


def _view(stream: StreamRow, row: ViewRow) -> CompiledView:
    own = _definition(stream, row.stream_version or stream.version)
    texts = [own, row.definition, *(ref.definition for ref in row.references)]
    found = _read(texts)
    view = found.views[row.name.lower()]
    pinned = {reference.name.lower(): reference for reference in row.references}
    references = [
        compile_reference(
            found.references[name.lower()],
            StoredFile(
                pinned[name.lower()].file,
                pinned[name.lower()].sha256,
                pinned[name.lower()].bytes or 0,
            ),
        )
        for name in view.references
    ]
    hashes = {name: reference.sha256 for name, reference in pinned.items()}
    compiled = compiled_view(view, found, hashes, references)
    _same("view", row.name, row.version, compiled.version)
    return replace(compiled, typed=tuple(_typed(stream, own, view.columns)))


def _definition(stream: StreamRow, wanted: str) -> str:
    """The declaration of a version of a stream."""
    return dict(stream.declared).get(wanted, stream.definition)


def _typed(stream: StreamRow, own: str, names: Iterable[str]) -> Iterator[str]:
    """The versions of a stream that declare these columns as `own` does."""
    wanted = reading.facts(_declared(own), names)
    for each, definition in stream.declared or [(stream.version, stream.definition)]:
        with suppress(DefinitionError):  # what this release cannot read is read by its bytes
            if reading.facts(_declared(definition), names) == wanted:
                yield each


@functools.lru_cache(maxsize=256)
def _declared(definition: str) -> Stream:
    return next(iter(_read([definition]).streams.values()))


def _read(texts: Iterable[str]) -> Definitions:
    statements = []
    for text in dict.fromkeys(texts):
        parsed, problems = parser.parse("ledger", text)
        if problems:
            raise DefinitionError(problems)
        statements += parsed
    found, problems = definitions.read(statements)
    if problems:
        raise DefinitionError(problems)
    return found


def _same(kind: str, name: str, registered: str, now: str) -> None:
    if registered != now:
        raise VersionOfAnotherRelease(kind, name, registered, now)
