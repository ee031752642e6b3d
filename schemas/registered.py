"""What the ledger has registered, compiled: the only definitions that a running layer goes by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from schemas import definitions, version
from schemas.compile import CompiledStream, CompiledView, compile_reference, compile_stream
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
    own = _read([row.definition])
    stream = next(iter(own.streams.values()))
    _same("stream", row.name, row.version, version.of_stream(stream))
    folded, lost = [], []
    for view in views:
        if view.suspended_epoch is None:
            try:
                folded.append(_view(row, view))
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


def stream(row: StreamRow) -> CompiledStream:
    """A stream as it is declared now; raises what `plan` does."""
    found = declared(row)
    _same("stream", row.name, row.version, version.of_stream(found))
    return compile_stream(found, row.version)


def declared(row: StreamRow) -> Stream:
    """A stream as it was written."""
    return next(iter(_read([row.definition]).streams.values()))


def compiled(stream: StreamRow, row: ViewRow) -> CompiledView:
    """A registered view, suspended or not."""
    return _view(stream, row)


def _view(stream: StreamRow, row: ViewRow) -> CompiledView:
    texts = [stream.definition, row.definition, *(ref.definition for ref in row.references)]
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
    return compiled


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
