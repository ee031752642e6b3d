"""The data root: files that are written once, durable before anybody can see them, and checked
whenever they are read (invariant 5).

A file is written beside its place under a name that nobody reads, fsynced, linked to its own name
(which fails if there is one: nothing is ever overwritten), and then its folder is fsynced. So a
name that can be seen has its whole content, and a `put` that returned survives a loss of power.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import DamagedFile, FileTaken, PathOutsideRoot
from schemas.stored_file import StoredFile

Stamp = tuple[int, int, int]  # of a file: inode, size, time of the last change
UNFINISHED = ".part"  # ends the hidden name `.<name>.<uuid>.part` that a file is written under


class DataRoot:
    """A folder that holds data files. Pickles as its path, so it travels into Spark tasks."""

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root).absolute()
        self._durable: set[Path] = set()  # folders whose way from the root was fsynced

    def __reduce__(self) -> tuple[type[DataRoot], tuple[str]]:
        return DataRoot, (str(self._root),)

    def put(self, folder: str, name: str, data: bytes) -> StoredFile:
        """Write a file that did not exist; durable and visible when this returns.

        `folder` is relative to the root and is made if it is missing; `name` is one the caller
        made unique. A file that is there already with the same bytes is left as it is;
        with others `FileTaken` is raised. An `OSError` (no space, a failed fsync) means that the
        file counts as not written: try again under another name.
        """
        return self.write(folder, name, lambda path: _write_new(path, data))

    def write(self, folder: str, name: str, writer: Callable[[Path], None]) -> StoredFile:
        """As `put`, for a file that need not fit in memory: `writer` makes it at the hidden path
        that it is given, where there is none yet."""
        final = self.local(f"{folder}/{name}")
        self._make(final.parent)
        hidden = final.with_name(f".{name}.{uuid.uuid4().hex}{UNFINISHED}")
        try:
            writer(hidden)
            with hidden.open("rb") as file:
                os.fsync(file.fileno())
            stored = _measured(f"{folder}/{name}", hidden)
            self._link(hidden, final, stored)
        finally:
            hidden.unlink(missing_ok=True)
        fsync_folder(final.parent)
        return stored

    def get(self, file: StoredFile) -> bytes:
        """The bytes of a file, exactly those that were written; else `DamagedFile`."""
        try:
            data = self.local(file.path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedFile(file.path, str(file), "no file") from error
        found = StoredFile.of(file.path, data)
        if found != file:
            raise DamagedFile(file.path, str(file), str(found))
        return data

    def check(self, file: StoredFile) -> Path:
        """Where a file lies, having read that it is what was written; else `DamagedFile`."""
        path = self.local(file.path)
        try:
            found = _measured(file.path, path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DamagedFile(file.path, str(file), "no file") from error
        if found != file:
            raise DamagedFile(file.path, str(file), str(found))
        return path

    def remove(self, path: str) -> None:
        """Unlink a file that nothing names any more; it may be gone already."""
        self.local(path).unlink(missing_ok=True)

    def local(self, path: str) -> Path:
        """Where a file lies on this machine; raises `PathOutsideRoot`."""
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise PathOutsideRoot(path)
        return self._root.joinpath(*parts)

    def _link(self, hidden: Path, final: Path, stored: StoredFile) -> None:
        try:
            os.link(hidden, final)
        except FileExistsError:
            if _measured(stored.path, final) != stored:
                raise FileTaken(stored.path) from None

    def _make(self, folder: Path) -> None:
        """Make a folder and its parents, durable too."""
        if folder in self._durable and folder.is_dir():
            return
        top = self._root if self._root.is_dir() else self._root.parent
        folder.mkdir(parents=True, exist_ok=True)
        above = folder
        while above != top:
            above = above.parent
            fsync_folder(above)
        self._durable.add(folder)


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)


def _measured(name: str, path: Path) -> StoredFile:
    """What the ledger would say of a file, read piece by piece."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return StoredFile(name, digest.hexdigest(), file.tell())


def stamp(path: Path) -> Stamp:
    """What of a file changes when somebody changes it. Raises `OSError`."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def readable(path: str) -> Iterator[None]:
    """`DamagedFile` where the system cannot read a file of the ledger."""
    try:
        yield
    except OSError as error:
        raise DamagedFile(path, "a file that can be read", error.strerror or "") from error


def unfinished(name: str) -> str | None:
    """The name that a hidden file was written for, as a killed `put` leaves it; else None."""
    if not (name.startswith(".") and name.endswith(UNFINISHED)):
        return None
    return name[1:].removesuffix(UNFINISHED).rpartition(".")[0]


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
