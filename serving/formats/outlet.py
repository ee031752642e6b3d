"""Where a writer of Arrow's puts its bytes, for us to take them away while it writes."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa


class Outlet:
    """What is written to `file` is had by `take`; what was taken still counts as written."""

    def __init__(self) -> None:
        self._kept = _Kept()
        self.file = pa.PythonFile(self._kept, mode="w")

    def take(self) -> bytes:
        """All that was written since the last time."""
        taken = b"".join(self._kept.parts)
        self._kept.parts.clear()
        return taken


class _Kept(io.RawIOBase):
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        self._written += len(data)
        return len(data)
