"""Project: a folder of definitions (`*.sql`, read in name order) with the files they name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas import definitions, engine, schedule, version
from schemas.compile import (
    CompiledReference,
    CompiledStream,
    CompiledView,
    compile_reference,
    compile_stream,
    compile_view,
)
from schemas.definitions import Definitions
from schemas.engine import Engine
from schemas.errors import DefinitionError, Problem
from schemas.language import parser
from schemas.language.reference import Reference
from schemas.language.statement import Statement
from schemas.language.view import REBUILD, View
from schemas.stored_file import StoredFile


@dataclass(frozen=True)
class Content:
    """The bytes of a reference's file, and the file that the state keeps them in."""

    file: StoredFile
    data: bytes


@dataclass(frozen=True)
class Project:
    """Checked definitions; `contents` by reference, names in lower case."""

    folder: Path
    definitions: Definitions
    contents: Mapping[str, Content]

    def streams(self) -> list[CompiledStream]:
        """Every stream, compiled."""
        return [
            compile_stream(stream, version.of_stream(stream))
            for stream in self.definitions.streams.values()
        ]

    def references(self, view: View) -> list[CompiledReference]:
        """The references that a view joins, compiled."""
        return [
            _compiled(self.definitions.references[name.lower()], self.contents[name.lower()])
            for name in view.references
        ]

    def views(self) -> list[CompiledView]:
        """Every view, compiled."""
        hashes = {name: content.file.sha256 for name, content in self.contents.items()}
        return [
            compiled_view(view, self.definitions, hashes, self.references(view))
            for view in self.definitions.views.values()
        ]


def load(folder: Path) -> Project:
    """Read and check a project. Raises DefinitionError, which lists every problem."""
    statements, problems = _statements(folder)
    # what could be read is checked too, so that one look finds all
    unread = [problem.about for problem in problems if problem.about]
    found, wrong = definitions.read(statements, unread)
    problems += wrong
    problems += _schedules(statements)
    contents: dict[str, Content] = {}
    reader = engine.connect()
    for name, reference in found.references.items():
        content, wrong = _content(folder, reference, reader)
        problems += wrong
        if content is not None:
            contents[name] = content
    if problems:
        raise DefinitionError(problems)
    return Project(folder, found, contents)


def compiled_view(
    view: View,
    found: Definitions,
    hashes: Mapping[str, str],
    references: list[CompiledReference],
) -> CompiledView:
    """A view with its version; `hashes` gives the content of each reference by lower-case name."""
    joined = {name: found.references[name.lower()] for name in view.references}
    pinned = {name: hashes[name.lower()] for name in view.references}
    stream = found.streams[view.stream.lower()]
    identity = version.of_view(view, stream, joined, pinned, engine.hash_probe())
    typed = (version.of_stream(stream),)
    return compile_view(view, identity, references, typed)


def _statements(folder: Path) -> tuple[list[Statement], list[Problem]]:
    statements: list[Statement] = []
    problems: list[Problem] = []
    files = sorted(folder.glob("*.sql"))
    if not files:
        what = "no such folder" if not folder.is_dir() else "no *.sql file in it"
        message = f"project must be a folder with *.sql files; got {what}"
        return [], [Problem(str(folder), 1, 1, message)]
    for file in files:
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            line = before.count(b"\n") + 1
            column = len(before) - before.rfind(b"\n")
            problems.append(Problem(file.name, line, column, "file must be UTF-8"))
            continue
        found, wrong = parser.parse(file.name, text)
        statements += found
        problems += wrong
    return statements, problems


def _schedules(statements: Iterable[Statement]) -> list[Problem]:
    """What is wrong with the schedules of views; of registered ones nobody asks that any more."""
    problems = []
    for view in statements:
        text = view.option(REBUILD) if view.kind == "view" else None
        if isinstance(text, str) and not schedule.fits(text):
            message = (
                f"option {REBUILD!r} of {view.subject} must be {schedule.ALLOWED}; got {text!r}"
            )
            problems.append(view.problem_of_option(message, REBUILD))
    return problems


def _content(
    folder: Path, reference: Reference, reader: Engine
) -> tuple[Content | None, list[Problem]]:
    path = folder / reference.file
    statement = reference.statement
    inside = path.resolve().is_relative_to(folder.resolve())
    if not inside or not path.is_file():
        message = (
            f"{statement.subject}: file {reference.file!r} must be in the project folder; "
            f"got {'no such file' if inside else 'a path that leads outside'}"
        )
        return None, [statement.problem_of_option(message, "file")]
    data = path.read_bytes()
    content = Content(_pinned(data), data)
    wrong = reader.reference_problems(_compiled(reference, content), data)
    subject = f"{statement.subject}: {reference.file}"
    return content, [statement.problem_of_option(f"{subject}: {text}", "file") for text in wrong]


def _compiled(reference: Reference, content: Content) -> CompiledReference:
    return compile_reference(reference, content.file)


def _pinned(data: bytes) -> StoredFile:
    return StoredFile.of(f"references/{hashlib.sha256(data).hexdigest()}", data)
