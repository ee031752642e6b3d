"""Files that statements read are read whole before, and compared with what the ledger says of them:
one after the other in a thread, which nothing waits for and which ends when all are."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from schemas.errors import DamagedFile
from schemas.storage import DataRoot, Stamp, readable, stamp
from schemas.stored_file import StoredFile


class Checker:
    """What is wanted may change at any time; what was found stays known while it is wanted."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._lock = threading.Condition()
        self._wanted: dict[StoredFile, None] = {}  # in the order in which they are to be read
        self._whole: dict[StoredFile, Stamp] = {}
        self._damaged: dict[StoredFile, tuple[Stamp | None, str]] = {}
        self._thread: threading.Thread | None = None
        self._news = False
        self._closed = False

    def want(self, files: Sequence[StoredFile]) -> None:
        """Check these, the first first, and forget all others. One that was touched since it was
        checked is read again."""
        touched = {each for each in files if self._touched(each)}
        with self._lock:
            self._wanted = dict.fromkeys(files)
            kept = self._wanted.keys() - touched
            self._whole = {f: s for f, s in self._whole.items() if f in kept}
            self._damaged = {f: d for f, d in self._damaged.items() if f in kept}
            if self._thread is None and self._next() is not None:
                self._thread = threading.Thread(target=self._work, name="checking", daemon=True)
                self._thread.start()

    def whole(self, file: StoredFile) -> Stamp | None:
        """What its stamp was when it was found to be what the ledger says; None: it was not yet."""
        with self._lock:
            return self._whole.get(file)

    def stamps(self) -> dict[str, Stamp]:
        """Of all files that were found to be whole, by path."""
        with self._lock:
            return {file.path: found for file, found in self._whole.items()}

    def damage(self, file: StoredFile) -> str | None:
        with self._lock:
            found = self._damaged.get(file)
        return None if found is None else found[1]

    def news(self) -> bool:
        """Whether something was found since this was asked last."""
        with self._lock:
            news, self._news = self._news, False
            return news

    def has_news(self) -> bool:
        """The same, without taking note of it."""
        with self._lock:
            return self._news

    def wait(self, seconds: float) -> bool:
        """Until nothing is to be read; whether that came to be."""
        with self._lock:
            return self._lock.wait_for(lambda: self._next() is None, seconds)

    def close(self) -> None:
        """Read nothing further."""
        with self._lock:
            self._closed = True

    def _touched(self, file: StoredFile) -> bool:
        with self._lock:
            known = self._whole.get(file)
            if known is None and file in self._damaged:
                known = self._damaged[file][0]
            elif known is None:
                return False
        return self._stamp(file) != known

    def _stamp(self, file: StoredFile) -> Stamp | None:
        try:
            return stamp(self._root.local(file.path))
        except OSError:
            return None

    def _next(self) -> StoredFile | None:
        found = self._whole.keys() | self._damaged.keys()
        return next((each for each in self._wanted if each not in found), None)

    def _work(self) -> None:
        while True:
            with self._lock:
                file = None if self._closed else self._next()
                if file is None:
                    self._thread = None
                    self._lock.notify_all()
                    return
            before, damage = self._stamp(file), None
            try:
                with readable(file.path):
                    self._root.check(file)
            except DamagedFile as error:
                damage = str(error)
            with self._lock:
                if damage is not None:
                    self._damaged[file] = before, damage
                elif before is not None and before == self._stamp(file):
                    self._whole[file] = before
                self._news = True
                self._lock.notify_all()
