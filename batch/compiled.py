"""Registered definitions, compiled once per process however many views are built or verified."""

from __future__ import annotations

from schemas import registered
from schemas.compile import CompiledStream, CompiledView
from schemas.ledger import versions
from schemas.ledger.connect import Ledger


class Compiled:
    """Versions of views with their streams."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._streams: dict[tuple[str, str], CompiledStream] = {}
        self._views: dict[tuple[str, str], CompiledView] = {}

    def of(self, view: str, version: str) -> tuple[CompiledStream, CompiledView]:
        """A version, whether it answers or not, and the stream as it is declared now."""
        row = versions.version(self._ledger, view, version)
        stream = next(each for each in versions.streams(self._ledger) if each.name == row.stream)
        if (view, version) not in self._views:
            self._views[view, version] = registered.compiled(stream, row)
        key = stream.name, stream.version
        if key not in self._streams:
            self._streams[key] = registered.stream(stream)
        return self._streams[key], self._views[view, version]
