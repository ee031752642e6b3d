"""StoredFile: what the ledger says of a file in the data root."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

Data = bytes  # the builtin, where `StoredFile.bytes` hides it


@dataclass(frozen=True)
class StoredFile:
    """What the ledger says of a file: where it is, and what must be in it."""

    path: str  # relative to the data root, '/'-separated
    sha256: str  # lower-case hex
    bytes: int  # its size

    @classmethod
    def of(cls, path: str, data: Data) -> StoredFile:
        return cls(path, hashlib.sha256(data).hexdigest(), len(data))

    def __str__(self) -> str:
        return f"{self.bytes} bytes with sha256 {self.sha256}"
